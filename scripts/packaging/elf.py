"""The requirements of a Linux program or library on its machine, and where it looks for libraries."""

import struct
from pathlib import Path

RPATH, RUNPATH, STRING_TABLE = 15, 29, 5
VERSIONS, VERSION_COUNT = 0x6FFFFFFE, 0x6FFFFFFF
LOADED, DYNAMIC = 1, 2
DYNAMIC_SYMBOLS, SYMBOL_VERSIONS = 11, 0x6FFFFFFF


class Elf:
    """A 64-bit little-endian ELF file, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = bytearray(path.read_bytes())
        if self.bytes[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not an ELF file for 64 bits")
        (at,) = struct.unpack_from("<Q", self.bytes, 32)
        size, count = struct.unpack_from("<HH", self.bytes, 54)
        # Type, flags, offset, address, physical address, size in the file, and what does not matter here.
        headers = [struct.unpack_from("<IIQQQQ", self.bytes, at + size * number) for number in range(count)]
        self.loaded = [(address, offset, length) for kind, _, offset, address, _, length in headers if kind == LOADED]
        dynamic = next(((offset, length) for kind, _, offset, _, _, length in headers if kind == DYNAMIC), (0, 0))
        self.tags = list(struct.iter_unpack("<qQ", bytes(self.bytes[dynamic[0] : sum(dynamic)])))

    def tag(self, wanted: int):
        """The value of a dynamic tag, or None."""
        return next((value for tag, value in self.tags if tag == wanted), None)

    def set_run_path(self, path: str) -> None:
        """Replaces the run path, in its place: the new one may not be longer."""
        new = path.encode()
        places = [value for tag, value in self.tags if tag in (RPATH, RUNPATH)]
        if not places and path:
            raise ValueError(f"{self.path} has no run path to replace")
        for value in places:
            start = self._string(value)
            old = self.bytes.index(0, start) - start
            if len(new) > old:
                raise ValueError(f"{self.path}: the run path has {old} bytes, {path} needs {len(new)}")
            self.bytes[start : start + old] = new.ljust(old, b"\0")

    def glibc(self) -> tuple:
        """The newest version of glibc of which it uses a symbol."""
        texts = [self._text(struct.unpack_from("<IHHII", self.bytes, entry)[3]) for entry in self._versions()]
        numbers = [text[len("GLIBC_") :].split(".")[:2] for text in texts if text.startswith("GLIBC_2.")]
        return max(((int(major), int(minor)) for major, minor in numbers), default=(0, 0))

    def take_older(self, symbol: str, newer: str, older: str) -> None:
        """Asks for the older version of a symbol, if no other symbol has the newer one."""
        known = {self._text(struct.unpack_from("<IHHII", self.bytes, entry)[3]): entry for entry in self._versions()}
        if newer not in known or older not in known or self._symbols_of(known[newer]) != {symbol}:
            return
        digest, _, _, name, _ = struct.unpack_from("<IHHII", self.bytes, known[older])
        struct.pack_into("<I", self.bytes, known[newer], digest)
        struct.pack_into("<I", self.bytes, known[newer] + 8, name)

    def _versions(self):
        """Where the versions are that it needs of other libraries' symbols."""
        at = self.tag(VERSIONS)
        offset = 0 if at is None else self._offset(at)
        for _ in range(self.tag(VERSION_COUNT) or 0):
            _, count, _, first, following = struct.unpack_from("<HHIII", self.bytes, offset)
            entry = offset + first
            for _ in range(count):
                yield entry
                entry += struct.unpack_from("<IHHII", self.bytes, entry)[4]
            offset += following

    def _symbols_of(self, version: int) -> set:
        """The names of the symbols of a version."""
        (sections,) = struct.unpack_from("<Q", self.bytes, 40)
        size, count = struct.unpack_from("<HH", self.bytes, 58)
        # Name, type, flags, address, offset, size, and what does not matter here.
        headers = [struct.unpack_from("<IIQQQQ", self.bytes, sections + size * number) for number in range(count)]
        place = {kind: (offset, length) for _, kind, _, _, offset, length in headers}
        (symbols, _), (versions, length) = place[DYNAMIC_SYMBOLS], place[SYMBOL_VERSIONS]
        (wanted,) = struct.unpack_from("<H", self.bytes, version + 6)
        numbers = struct.unpack_from(f"<{length // 2}H", self.bytes, versions)
        names = [struct.unpack_from("<I", self.bytes, symbols + 24 * at)[0] for at in range(len(numbers))]
        return {self._text(name) for name, number in zip(names, numbers) if number == wanted}

    def _offset(self, address: int) -> int:
        """Where an address of memory is in the file."""
        return next(offset + address - start for start, offset, size in self.loaded if start <= address < start + size)

    def _string(self, value: int) -> int:
        return self._offset(self.tag(STRING_TABLE)) + value

    def _text(self, value: int) -> str:
        start = self._string(value)
        return self.bytes[start : self.bytes.index(0, start)].decode()
