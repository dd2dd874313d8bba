"""What a lab's clients and its runner say to one another: one JSON object per line, told apart by its key `type`.

    client  --request-->  keeper  --request-->  runner          (stdin of the runner)
    client  <--answer---  keeper  <--answer---  runner          (stdout of the runner)

Every request carries an `id` above 0 that its sender chose; all answers to it carry the same one. A request gets any
number of `Progress` and `Output`, then exactly one `Result` or `Failed`, and nothing after that. Requests run side by
side, so answers to different ones may be mixed. `Signal`, `Stdin` and `Resize` are no requests of their own: they go
to the running request whose id they carry, get no answer, and are dropped when that request has ended. A `Failed` with
id 0 comes from the keeper, about the connection as a whole, and is the last thing on it.

End of file on the runner's stdin means what `Down` means, without anyone to answer: take all down and end.

The values of `Result`, by request:

    Up        null
    Check     the JSON of Checked, below
    Exec      {"status": n}, 128 + N when signal N ended it
    Logs      {"status": n}, as Exec
    Inspect   any JSON object
    Restart   null
    Play      the JSON of scenario.record.Record; before it the packet capture, a pcapng file, as Output of fd 1
    Down      null

This module is pure: bytes in, values out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from routed.errors import Bug, ConflictError, EnvironmentFault, OperatorError, PeerError, RoutedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
    """Any value that JSON can carry."""
else:
    Json = Any  # msgspec cannot follow a type into itself; Any lets through the same values


Kind: TypeAlias = Literal["operator", "conflict", "peer", "environment", "bug"]
"""Who can act on a failure: the branches of `routed.errors`."""

LINE_LIMIT: Final = 16 << 20
"""Longest line that is accepted, in bytes; longer ones are a broken peer, not a message."""

CHUNK: Final = 32 << 10
"""Most bytes that one `Output` or `Stdin` should carry, so that other requests get their turn between them."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    id: int


class Up(_Message, frozen=True, tag="up"):
    """Build the lab that `file` (an absolute path) describes and keep it; ends when the lab is ready.

    `variant` are absolute paths of resources that go on top of those of the file. `kernel` says where the runner runs.
    The nodes `absent` are wired up, and become members only when a scenario adds them.
    `leftovers` allows it to remove what an earlier run of the same lab, which was killed, left in the kernel.
    `environment` are variables that the file mentions, which the runner's own shell may not have.
    """

    file: str
    variant: tuple[str, ...] = ()
    kernel: Literal["host", "uml"] = "uml"
    leftovers: bool = True
    environment: dict[str, str] = {}
    absent: tuple[str, ...] = ()


class Check(_Message, frozen=True, tag="check"):
    """Ping all pod pairs and compare what the wire carried; `without_tor`: with that node's ToR session down."""

    without_tor: str | None = None


class Exec(_Message, frozen=True, tag="exec"):
    """Run `argv` in the namespaces of `node`; with `stdin` its input comes as `Stdin`, else it is empty.

    With `tty` it has a terminal of its own, of `rows` and `columns` if they are above 0.
    """

    node: str
    argv: list[str]
    tty: bool = False
    stdin: bool = False
    rows: int = 0
    columns: int = 0


class Logs(_Message, frozen=True, tag="logs"):
    """Give out what the daemons of `node` have logged; with `follow` also what they will log, until a signal comes."""

    node: str
    follow: bool = False


class Inspect(_Message, frozen=True, tag="inspect"):
    """Tell the nodes, links, pods, processes and sessions of the lab."""


class Restart(_Message, frozen=True, tag="restart"):
    """Stop and start the daemon of `node`, its namespaces and kernel state untouched; ends when it is ready again."""

    node: str


class Play(_Message, frozen=True, tag="play"):
    """Play the scenario in `file` (an absolute path); ends when its last step has, or one has failed."""

    file: str


class Down(_Message, frozen=True, tag="down"):
    """Remove all that the lab made; the runner ends after the answer.

    With `lab`, to a runner that has had no `Up`: remove what an earlier run of the lab of that name, which was killed,
    left in the kernel the runner runs on. Its file is not asked, which may be broken or gone by now.
    """

    lab: str | None = None


class Signal(_Message, frozen=True, tag="signal"):
    """Send signal `number` to what the request `id` runs; 2 and 15 cancel a request that runs no program.

    The keeper sends 1 (SIGHUP) to a program whose client has gone, and 2 (SIGINT) to other requests of that client.
    """

    number: int


class Stdin(_Message, frozen=True, tag="stdin"):
    """Input for the program that the request `id` runs; `eof` closes it after `data`."""

    data: bytes = b""
    eof: bool = False


class Resize(_Message, frozen=True, tag="resize"):
    """The terminal of the program that the request `id` runs has another size now."""

    rows: int
    columns: int


class Progress(_Message, frozen=True, tag="progress"):
    """One line, present tense, of what is being done now, for a person who waits."""

    text: str


class Output(_Message, frozen=True, tag="output"):
    """Bytes that the program wrote to its file descriptor `fd`, 1 or 2; of a Play a piece of the capture."""

    fd: Literal[1, 2]
    data: bytes


class Result(_Message, frozen=True, tag="result"):
    """The request is done; `value` by the table in the module's docstring."""

    value: Json = None


class Failed(_Message, frozen=True, tag="failed"):
    """The request is over and did not do what it says; the text is fit for a terminal."""

    message: str
    hint: str | None = None
    kind: Kind = "environment"


class Summary(msgspec.Struct, frozen=True):
    """What a check found, counts of ordered pod pairs; `wrong`: not the encapsulation that the topology implies."""

    topology: str
    pairs: int
    reachable: int
    direct: int
    encapsulated: int
    wrong: int
    seconds: float


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One ordered pod pair: what its packets did, what they should do, and the round trip in milliseconds if any."""

    source: str
    destination: str
    path: str
    encapsulation: str
    expected: str
    rtt_ms: float | None


class Checked(msgspec.Struct, frozen=True):
    """The value of a Check's Result."""

    summary: Summary
    rows: list[Row]


Notice: TypeAlias = Signal | Stdin | Resize
"""What concerns a request that runs, and gets no answer."""

Request: TypeAlias = Up | Check | Exec | Logs | Inspect | Restart | Play | Down | Notice
Answer: TypeAlias = Progress | Output | Result | Failed

_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)

_KINDS: Final[dict[Kind, type[RoutedError]]] = {
    "conflict": ConflictError,
    "operator": OperatorError,
    "peer": PeerError,
    "environment": EnvironmentFault,
    "bug": Bug,
}


def encode(message: Request | Answer) -> bytes:
    """Return `message` as one line, its newline included."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request that `line` holds; OperatorError if it holds none."""
    try:
        return _requests.decode(line)
    except msgspec.MsgspecError as error:
        raise OperatorError(f"not a request to a lab: {error}", hint=_OTHER_VERSION) from error


def decode_answer(line: bytes) -> Answer:
    """Return the answer that `line` holds; EnvironmentFault if it holds none."""
    try:
        return _answers.decode(line)
    except msgspec.MsgspecError as error:
        raise EnvironmentFault(f"not an answer from a lab: {error}", hint=_OTHER_VERSION) from error


_OTHER_VERSION: Final = "if the lab was brought up by another version of routed, take it down and up again"


def failed(request: int, error: RoutedError) -> Failed:
    """Return `error` as the answer that ends `request`."""
    for kind, branch in _KINDS.items():
        if isinstance(error, branch):
            return Failed(id=request, message=error.message, hint=error.hint, kind=kind)
    return Failed(id=request, message=error.message, hint=error.hint)


def error_of(answer: Failed) -> RoutedError:
    """Return the error that `answer` was made from, for the client to raise."""
    return _KINDS[answer.kind](answer.message, hint=answer.hint)


class Lines:
    """Cuts a stream of bytes into lines: feed it what was read, get the lines that are complete, without newline."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a line whose end has not come yet."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each line that `data` completes; EnvironmentFault when one grows beyond LINE_LIMIT."""
        self._rest += data
        if b"\n" in data:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            yield from lines
        if len(self._rest) > LINE_LIMIT:
            raise EnvironmentFault(f"a line of more than {LINE_LIMIT} bytes came from the lab", hint=_OTHER_VERSION)
