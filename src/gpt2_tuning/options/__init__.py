"""The command lines: each field is a flag, its docstring the flag's help, its default the flag's."""
