"""The models that are served, by name: the bare base and adapters over it, added and removed while requests run."""

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from client.finished.run import Trained
from client.model.lora import Lane, frozen_lane
from client.serving.adapter_folder import read_adapter
from common.errors import ConfigError

_NAME = re.compile(r"[\w.:@+/-]{1,200}")


class UnknownModelError(ConfigError):
    """No model of this name is served."""


@dataclass(frozen=True, eq=False)
class Served:
    """A model: its name, its lane over the base (none for the base itself), and when it was added, in Unix time."""

    name: str
    lane: Lane = field(repr=False)
    is_base: bool
    created: int


class Models:
    """The served models; safe to use from several threads. What a request has got from it stays whole."""

    def __init__(self, trained: Trained, name: str) -> None:
        """Serve the bare base under the name of its folder, and the run's update under this name."""
        self._trained, self._adding = trained, threading.Lock()
        self._served: Mapping[str, Served] = MappingProxyType({})
        own = trained.base.folder.name
        self._insert(own if own != name and _NAME.fullmatch(own) else "base", Lane(), is_base=True)
        self._insert(name, frozen_lane(trained.adapter, trained.base.device))

    @property
    def all(self) -> tuple[Served, ...]:
        """The models, the base first."""
        return tuple(self._served.values())

    @property
    def base(self) -> str:
        """The name of the bare base."""
        return self.all[0].name

    def find(self, name: str) -> Served:
        """Return the model of this name.

        Raises:
            UnknownModelError: there is none.
        """
        if name not in self._served:
            raise UnknownModelError(f"model {name!r} is not served; known: {', '.join(self._served)}")
        return self._served[name]

    def add(self, name: str, folder: Path) -> None:
        """Serve the adapter in this folder under this name.

        Raises:
            FedloraError: the name is taken or unusable, or the folder has no adapter for this base.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"adapter name {name!r}: use 1 to 200 letters, digits and . : @ + / _ -")
        self._check_free(name)
        adapter = read_adapter(folder, self._trained.node, self._trained.base)
        self._insert(name, frozen_lane(adapter, self._trained.base.device))

    def remove(self, name: str) -> None:
        """Serve this adapter no more; requests that run keep it to their end.

        Raises:
            UnknownModelError: it is not served.
            ConfigError: it is the base.
        """
        with self._adding:
            if self.find(name).is_base:
                raise ConfigError(f"{name!r} is the base model, over which all others are served; it stays")
            self._served = MappingProxyType({key: each for key, each in self._served.items() if key != name})

    def _insert(self, name: str, lane: Lane, is_base: bool = False) -> None:
        with self._adding:
            self._check_free(name)
            served = Served(name, lane, is_base, int(time.time()))
            self._served = MappingProxyType({**self._served, name: served})

    def _check_free(self, name: str) -> None:
        if name in self._served:
            raise ConfigError(f"a model named {name!r} is served already; unload it first, or give another name")
