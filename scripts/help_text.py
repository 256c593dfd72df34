"""Reads the help of a command, as clap prints it."""

import re


class Argument:
    """A flag, or an argument without one.

    Attributes:
        flag: its long name without dashes, or the argument's name in small letters.
        name: the name that it has in Python.
        value: the name of its value, empty for a switch.
        text: its meaning, on one line.
        default: its default, empty without one.
        choices: its possible values.
        positional: whether it has no flag.
        several: whether it takes several values, each an argument.
        required: whether it has to be given.
        nameless: whether Python takes it without its name although it has a flag.
    """

    def __init__(self, flag: str, value: str, text: str = "") -> None:
        self.flag, self.value, self.text = flag, value, text
        self.name = flag.replace("-", "_")
        self.default, self.choices = "", []
        self.positional = self.several = self.required = self.nameless = False

    @property
    def repeats(self) -> bool:
        """Whether the flag may be given more than once."""
        return "repeatable" in self.text or "given once for both" in self.text

    @property
    def joined(self) -> bool:
        """Whether a list of values is one value with commas."""
        return self.value == "a,b" or bool(re.search(r"separated by commas|with commas between", self.text))

    @property
    def pairs(self) -> bool:
        """Whether each entry of a mapping is a value of its own, as in `section.key=value`."""
        return self.value in ("key=value", "section.key=value")

    @property
    def selector(self) -> bool:
        """Whether a mapping is one value, as in `key=value,key=value`."""
        return self.value == "key=value,..." or bool(re.search(r"as in '[a-z_]+=|: 'condition=", self.text))

    @property
    def listed(self) -> bool:
        """Whether the value may be a file of names, so that a list of names can be given instead."""
        return bool(re.search(r"\bfile with one gene name|those in a file, one per line|listed in a file", self.text)) and (
            not self.repeats
        )


def parse(text: str) -> tuple:
    """The title of a help and its arguments, in order."""
    title = text.split("\n\n")[0].replace("\n", " ")
    usage = next(line for line in text.splitlines() if line.startswith("Usage: "))
    usage += text.split(usage, 1)[1].split("\n\n", 1)[0]
    arguments = []
    for section in re.split(r"\n(?=[A-Z][A-Za-z ]*:\n)", text)[1:]:
        heading, body = section.split(":\n", 1)
        if heading in ("Example", "Examples", "Commands"):
            continue
        for entry in re.split(r"\n(?=  (?:[<\[]|    --|-\w))", "\n" + body):
            argument = entry_of(entry.strip("\n"), usage)
            if argument is not None:
                arguments.append(argument)
    return title, arguments


def entry_of(entry: str, usage: str):
    """One entry of a help: its first line has the names, the others what it means."""
    head, _, body = entry.partition("\n")
    flag = re.match(r"\s+(?:-\w, )?--([a-z0-9-]+)(?: (.*))?$", head)
    place = re.match(r"\s+[<\[]([A-Z_]+)[>\]](\.\.\.)?$", head)
    if flag:
        value = (flag[2] or "").strip("[]").strip("<>")
        argument = Argument(flag[1], value)
        argument.required = bool(re.search(rf" --{flag[1]} <[^\]]*?(?= --|$| <| \[)", usage)) and f"[--{flag[1]}" not in usage
    elif place:
        argument = Argument(place[1].lower(), place[1])
        argument.positional, argument.several = True, bool(place[2])
        argument.required = f"<{place[1]}>" in usage
        if argument.several and not argument.name.endswith("s"):
            argument.name += "s"
            argument.flag = argument.name
    else:
        return None
    describe(argument, body)
    return argument


def describe(argument: Argument, body: str) -> None:
    """Takes the meaning, the possible values and the default from the lines under an entry."""
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", body)]
    listed = re.search(r"Possible values:\n(.*?)(?=\n\s*\n|\Z)", body, re.S)
    if listed:
        items = re.split(r"\n?\s+- (?=[a-z0-9_-]+:)", "\n" + listed[1])[1:]
        argument.choices = [item.split(":")[0] for item in items]
        meanings = "; ".join(
            f"`{name}`: {' '.join(meaning.split())}" for name, meaning in (item.split(":", 1) for item in items)
        )
        paragraphs = [meanings if part.startswith("Possible values:") else part for part in paragraphs]
    short = re.search(r"\[possible values: ([^\]]*)\]", body)
    if short:
        argument.choices = [one.strip() for one in " ".join(short[1].split()).split(",")]
        paragraphs = [re.sub(r"\s*\[possible values: [^\]]*\]", "", part) for part in paragraphs]
    default = re.search(r"\[default: ([^\]]*)\]", " ".join(body.split()))
    argument.default = default[1] if default else ""
    text = ". ".join(part for part in paragraphs if part and not part.startswith("[default"))
    last = f" [default: {argument.default}]" if argument.default and "[default" not in text else ""
    argument.text = text + last
