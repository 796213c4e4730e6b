"""The command lines: a field is a flag, its docstring the help, its default the flag's default."""
