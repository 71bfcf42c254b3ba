"""Run code around the imports of some packages, in any order and from any module."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.abc import Loader, MetaPathFinder


def run_around_imports(packages: tuple[str, ...], around: Callable[[], AbstractContextManager]) -> None:
    """From now on, execute modules of these packages inside a context manager; they are found as before.

    Args:
        packages (`tuple[str, ...]`): names of top-level packages; their submodules are meant, too.
        around (`Callable`): makes the context manager, once for each module that is executed.
    """
    sys.meta_path.insert(0, _Finder(packages, around))


class _Finder(MetaPathFinder):
    def __init__(self, packages, around):
        self.packages, self.around = packages, around

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] not in self.packages:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:  # a namespace has none
                    spec.loader = _Loader(spec.loader, self.around)
                return spec
        return None


class _Loader(Loader):
    """The loader that was found, with something around the execution of the module."""

    def __init__(self, loader, around):
        self.loader, self.around = loader, around

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        with self.around():
            self.loader.exec_module(module)

    def __getattr__(self, name):  # its source, its resources, ...
        if name == "loader":  # of an object that is being copied
            raise AttributeError(name)
        return getattr(self.loader, name)


__all__ = ["run_around_imports"]
