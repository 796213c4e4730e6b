"""The processes that train together, as TF_CONFIG names them. Needs no TensorFlow.

TF_CONFIG is TensorFlow's own convention: an environment variable that holds every process's
address and which of them this one is.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Self

from gpt2_tuning.errors import UserError

VARIABLE = "TF_CONFIG"
ADDRESS = re.compile(r".+:\d{1,5}")
EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Every process's address, and the number of this one; number 0 is the chief."""

    addresses: tuple[str, ...]
    index: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Reads TF_CONFIG.

        Raises:
            UserError: it is missing, or does not say who takes part and who this process is.
        """
        text = (os.environ if environment is None else environment).get(VARIABLE, "")
        if not text:
            raise UserError(
                "--strategy multi_worker needs the environment variable TF_CONFIG, which names the "
                "workers; on one machine `python -m gpt2_tuning.commands.launch` sets it"
            )
        try:
            return cls(*read(json.loads(text)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(
                f"TF_CONFIG is not understood ({reason}); it must be {EXAMPLE}"
            ) from error

    def as_json(self) -> str:
        """The value of TF_CONFIG in this process."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})


def read(config: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Addresses and this process's number from TF_CONFIG's content.

    Raises:
        ValueError, TypeError, KeyError or AttributeError: it has another form.
    """
    jobs, task = config["cluster"], config["task"]
    if unknown := set(jobs) - {"chief", "worker"}:
        raise ValueError(f"{unknown.pop()!r} takes no part here: only chief and worker do")
    # A chief with a name of its own comes before the workers.
    order = [name for name in ("chief", "worker") if name in jobs]
    places = [(name, index) for name in order for index in range(len(jobs[name]))]
    addresses = tuple(str(jobs[name][index]) for name, index in places)
    for address in addresses:
        if not ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is not HOST:PORT")
    here = (task["type"], int(task["index"]))
    if here not in places:
        raise ValueError(f"the cluster has no {here[0]} {here[1]}")
    return addresses, places.index(here)


def is_chief(strategy_name: str) -> bool:
    """Whether this process writes files and speaks to people: the others only compute.

    Args:
        strategy_name: the value of `--strategy`.
    """
    return strategy_name != "multi_worker" or Cluster.from_environment().index == 0
