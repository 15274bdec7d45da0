"""What a pickle would build, looked at before anything of it is built: lengths, keys, and arguments that never end.

Forty tuples of which each holds the one before twice are 160 bytes, and 2^40 objects to whatever walks through them: a
hash, a comparison, the text of a message.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import IO, Any, ClassVar

Readable = IO[bytes] | BufferedIOBase
MOST = 100_000  # objects in the arguments of one call
MOST_IN_ALL = 20_000_000  # in those of all calls together
LONGEST_LINE = 10_000  # bytes of a name or a number in digits
MOST_READS = 2_000_000  # of a file, at least one for each object
PLAIN = (str, bytes, int, float, bool, type(None))


class _Thing:
    """A class, a function, or what a call of one would give."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __setitem__(self, key: Any, value: Any) -> None:
        _check_key(key)

    def append(self, value: Any) -> None:
        """Nothing is kept."""

    def extend(self, values: Any) -> None:
        """Nothing is kept."""


class _Bounded:
    """A file that is not read too often, and of which no more is asked for than it has left.

    Otherwise memory would be taken for what is not there.

    Args:
        file: open for reading.
        size: bytes of the file.
    """

    def __init__(self, file: Readable, size: int) -> None:
        self.file, self.size, self.left = file, size, MOST_READS

    def read(self, count: int) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"it makes more than {MOST_READS} objects")
        if not 0 <= count <= self.size - self.file.tell():
            raise EOFError(f"it claims {count} bytes more where it has {self.size - self.file.tell()}")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(LONGEST_LINE)


def check_pickle(file: Readable, size: int) -> list[Any]:
    """Goes through a pickle as a reader of it would, without making more than lists, tuples and dictionaries.

    Args:
        file: at the beginning of the pickle, after which it stands at its end.
        size: bytes of the whole file.

    Returns:
        What it says of each part that lies outside of it, such as the numbers of a tensor.

    Raises:
        Exception: of any kind; it is damaged, or has parts that reading would not end with.
    """
    skeleton = _Skeleton(_Bounded(file, size))
    skeleton.load()
    return skeleton.outside


# the one written in Python, whose memory does not grow with the numbers that a file gives to its objects
class _Skeleton(pickle._Unpickler):  # pyright: ignore[reportPrivateUsage]
    stack: list[Any]  # as of the class above
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # pyright: ignore

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.outside: list[Any] = []
        self.left = MOST_IN_ALL

    def find_class(self, module: str, name: str) -> Any:
        return _Thing(name)

    def persistent_load(self, pid: Any) -> Any:
        self._check(pid)
        self.outside.append(pid)
        return _Thing()

    def _check(self, arguments: Any) -> None:
        """Refuses arguments of too many objects, counted as often as they are met."""
        waiting, count = [arguments], 0
        while waiting:
            parts = list(_parts(waiting.pop()))
            count += 1 + len(parts)
            if count > min(MOST, self.left):
                raise ValueError(f"it calls something with more than {MOST} objects")
            waiting += [part for part in parts if isinstance(part, tuple | list | dict)]
        self.left -= count

    def _call(self, function: Any, arguments: Any) -> _Thing:
        if not isinstance(function, _Thing):
            raise ValueError(f"it calls a {type(function).__name__}")
        self._check(arguments)
        return _Thing()

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(self._call(function, arguments))

    def _newobj_ex(self) -> None:
        named = self.stack.pop()
        self._check(named)
        self._reduce()

    def _obj(self) -> None:
        function, *arguments = self.pop_mark()
        self.append(self._call(function, arguments))

    def _inst(self) -> None:
        function = self.find_class(self.readline()[:-1].decode("ascii"), self.readline()[:-1].decode("ascii"))
        self.append(self._call(function, self.pop_mark()))

    def _build(self) -> None:
        self.stack.pop()

    def _frame(self) -> None:
        self.read(8)  # its length, which changes nothing

    def _bytearray(self) -> None:
        self.read(int.from_bytes(self.read(8), "little"))
        self.append(b"")

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            _check_key(key)
            target[key] = value

    def _additems(self) -> None:
        for key in self.pop_mark():
            _check_key(key)

    def _frozenset(self) -> None:
        self._additems()
        self.append(_Thing())

    for _code, _load in (
        (pickle.REDUCE, _reduce),
        (pickle.NEWOBJ, _reduce),
        (pickle.NEWOBJ_EX, _newobj_ex),
        (pickle.OBJ, _obj),
        (pickle.INST, _inst),
        (pickle.BUILD, _build),
        (pickle.FRAME, _frame),
        (pickle.BYTEARRAY8, _bytearray),
        (pickle.DICT, _dict),
        (pickle.SETITEM, _setitem),
        (pickle.SETITEMS, _setitems),
        (pickle.ADDITEMS, _additems),
        (pickle.FROZENSET, _frozenset),
    ):
        dispatch[_code[0]] = _load


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, tuple | list):
        yield from value


def _check_key(key: Any) -> None:
    if not isinstance(key, PLAIN):
        raise ValueError(f"it has a {type(key).__name__} as the name of a value")
