"""Ends every process of the tests that unpickles anything; Python imports this before all else.

Allowed are submitit's own files of jobs, and what processes of one job tell each other: torch.distributed,
apart from its checkpoints, and multiprocessing. Tests that tests start unpickle what they pickled themselves.

What such a process imports stays to its end. Python does not look through it again and again for what may
go: that takes a second where torch is imported.
"""

import _pickle
import atexit
import gc
import os
import pickle
import sys
import traceback
from typing import Any

gc.set_threshold(10_000)
atexit.register(gc.freeze)
EXIT_CODE = 97
ALLOWED = ("/submitit/", "/torch/distributed/", "/multiprocessing/", "/_pytest/")
NEVER = ("/torch/distributed/checkpoint/",)
_load, _loads = pickle.load, pickle.loads


def _refuse_others() -> None:
    files = [frame.filename for frame in traceback.extract_stack()]
    allowed = any(part in file for part in ALLOWED for file in files)
    if not allowed or any(part in file for part in NEVER for file in files):
        traceback.print_stack()
        sys.stderr.write("something was unpickled\n")
        sys.stderr.flush()
        os._exit(EXIT_CODE)


class _Unpickler(pickle.Unpickler):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        _refuse_others()
        super().__init__(*arguments, **options)


class _PythonUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        _refuse_others()
        super().__init__(*arguments, **options)


def _guarded_load(*arguments: Any, **options: Any) -> Any:
    _refuse_others()
    return _load(*arguments, **options)


def _guarded_loads(*arguments: Any, **options: Any) -> Any:
    _refuse_others()
    return _loads(*arguments, **options)


for module in (pickle, _pickle):
    module.load, module.loads = _guarded_load, _guarded_loads  # type: ignore[attr-defined]
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
pickle._Unpickler = _PythonUnpickler  # type: ignore[attr-defined]
