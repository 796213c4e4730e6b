"""What preparation writes of the samples is what earlier versions wrote, to the byte."""

import gzip
import hashlib
import importlib
import json

import pytest
from script_runs import DATASET_FILES, listing, read

SUMS = {
    "classification": "5099906ec35923f8bfc5c65c1369a51577b83a3f3fa91b2a81e875ebb83e3393",
    "entailment": "e19767e96c01f07bb6c2c359be2c3ca6c47b28bbdf3b923d2be25fa5d7aee9c6",
    "instruction": "396180dd3c6045ea719b8b5845ee142497d3682b57615ae43039b15578ca5367",
    "text": "f22e99ff5760a5bc248ed8f344078fb5a6b9a9d68be2d20b1103153501fc1152",
}


def checksum(directory):
    """Of metadata.json and all records, without what follows from how well they are compressed."""
    content = read(directory)
    for split in content["splits"].values():
        del split["files"]
    found = hashlib.sha256(json.dumps(content).encode())
    for file in sorted(directory.glob("*.gz")):
        found.update(gzip.decompress(file.read_bytes()))
    return found.hexdigest()


@pytest.mark.parametrize("task", SUMS)
def test_prepared_samples_are_those_of_earlier_versions(task, tmp_path):
    script = importlib.import_module(f"{task}_tuning.prep_dataset")
    assert script.main(["--dataset", "sample", "--output_dir", str(tmp_path / "set")]) == 0
    assert listing(tmp_path / "set") == DATASET_FILES
    assert checksum(tmp_path / "set") == SUMS[task]
