"""Models as transformers reads them; run by the interpreter that has PyTorch."""

import transformers


def loaded(directory, loader=transformers.AutoModelForCausalLM, **arguments):
    """A model of which every weight must be in the files."""
    model, info = loader.from_pretrained(directory, output_loading_info=True, **arguments)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise SystemExit(f"{directory}: {problem} {info[problem]}")
    return model.eval()
