"""Child processes: what they get, what they say, and that none of them stays."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.builders import process
from condastore.builders.process import Event, crash, engine, printable, start_engine
from condastore.errors import BuildError
from tests.patience import PATIENCE_S

# Plays the engine: runs the code in the job, which may use `say`.
PLAYER = """\
#!{python}
import json, os, signal, subprocess, sys, time
fd = int(sys.argv[sys.argv.index("--events-fd") + 1])
os.set_inheritable(fd, False)

def say(t, **fields):
    os.write(fd, json.dumps({{"t": t, **fields}}).encode() + b"\\n")

for line in sys.stdin:
    exec(json.loads(line)["code"])
"""


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is a program that does what a test says."""
    program = tmp_path / "player"
    program.write_text(PLAYER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


class Listener:
    """Keeps the events of a child."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def output(self) -> str:
        return "".join(f"{event['text']}\n" for event in self.events if event["t"] == "log")


@pytest.fixture
def listener() -> Listener:
    return Listener()


async def play(scratch: Path, code: str, listener: Listener | None = None) -> Event:
    async with engine(scratch) as child:
        return await child.do(job(code), listener or Listener())


def job(code: str) -> dict[str, Any]:
    return {"code": textwrap.dedent(code)}


def is_gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def players() -> list[str]:
    """The engines that this process has started and not ended."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        pid
        for pid in found
        if not is_gone(int(pid)) and "player" in Path(f"/proc/{pid}/cmdline").read_text()
    ]


async def eventually_gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_gone(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def eventually_open(descriptors: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(os.listdir("/proc/self/fd")) != descriptors:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# What a child gets


@pytest.mark.usefixtures("player")
async def test_a_child_gets_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in process.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("https_proxy", "http://proxy")
    result = await play(tmp_path, "say('result', environment=dict(os.environ), cwd=os.getcwd())")
    own = result["cwd"]
    assert Path(own).parent == tmp_path
    assert result["environment"] == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": own,
        "TMPDIR": own,
        "https_proxy": "http://proxy",
    }


@pytest.mark.usefixtures("player")
async def test_a_child_leads_a_group_and_holds_nothing_of_the_daemons(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), False)
        code = """
            files = {os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]
                     for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}
            say("result", ids=[os.getpid(), os.getpgid(0), os.getsid(0)], files=sorted(files))
        """
        result = await play(tmp_path, code)
    assert len(set(result["ids"])) == 1
    assert set(result["files"]) <= {"pipe", "socket", f"/proc/{result['ids'][0]}/fd"}


# What it says


@pytest.mark.usefixtures("player")
async def test_events_come_in_order_and_the_result_last(tmp_path: Path, listener: Listener) -> None:
    code = """
        say("phase", phase="solve")
        say("progress", done=1)
        say("result", packages=["é" * 100_000])
        say("log", text="too late")
    """
    result = await play(tmp_path, code, listener)
    assert result["packages"] == ["é" * 100_000]
    assert [event["t"] for event in listener.events] == ["phase", "progress"]


@pytest.mark.usefixtures("player")
async def test_a_job_that_failed_says_why(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no such package") as caught:
        await play(tmp_path, "say('error', kind='unsatisfiable', text='no such package')")
    assert caught.value.kind == "unsatisfiable"


@pytest.mark.usefixtures("player")
@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("sys.exit(3)", "engine", "ended with status 3 and without a result"),
        ("sys.exit(0)", "engine", "ended with status 0 and without a result"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "memory", "SIGKILL.*max_build_memory"),
        ("os.abort()", "memory", "SIGABRT.*ran out of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "engine", "signal 11 .Segmentation fault"),
        ("os.kill(os.getpid(), 40)", "engine", "signal 40"),
        ('os.write(fd, b\'{"t": "resu\'); os.kill(os.getpid(), 9)', "memory", "SIGKILL"),
        ("os.write(fd, b'nonsense\\n')", "engine", "broke the protocol"),
        ("os.write(fd, b'[]\\n')", "engine", "broke the protocol"),
        ("os.write(fd, b'{}\\n')", "engine", "broke the protocol"),
        ('os.write(fd, b\'{"t": "error"}\\n\')', "engine", "broke the protocol"),
        ("os.write(fd, b'\\xff\\n')", "engine", "broke the protocol"),
    ],
)
async def test_a_child_that_breaks_says_how(
    tmp_path: Path, code: str, kind: str, text: str
) -> None:
    with pytest.raises(BuildError, match=text) as caught:
        await play(tmp_path, code)
    assert caught.value.kind == kind


@pytest.mark.usefixtures("player")
async def test_an_event_without_an_end_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "EVENT_BYTES", 100_000)
    with pytest.raises(BuildError, match="broke the protocol"):
        await play(tmp_path, "os.write(fd, b'x' * 10_000_000)")


def test_every_end_has_a_text() -> None:
    for status in range(-64, 256):
        assert str(crash(status))


# What it prints


@pytest.mark.usefixtures("player")
async def test_what_is_printed_is_a_log_line(tmp_path: Path, listener: Listener) -> None:
    code = """
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        print("without an end", end="", flush=True)
        say("result")
    """
    await play(tmp_path, code, listener)
    assert listener.output == "to stdout\nto stderr\nwithout an end\n"
    assert {event["step"] for event in listener.events} == {"output"}


@pytest.mark.usefixtures("player")
async def test_the_last_words_of_a_crash_are_heard(tmp_path: Path, listener: Listener) -> None:
    with pytest.raises(BuildError):
        await play(tmp_path, "print('panicked at x.rs', flush=True); os.abort()", listener)
    assert listener.output == "panicked at x.rs\n"


@pytest.mark.usefixtures("player")
async def test_characters_that_arrive_in_pieces_stay_whole(
    tmp_path: Path, listener: Listener
) -> None:
    code = """
        for byte in "é€\\U0001f40d\\n".encode():
            os.write(1, bytes([byte])); time.sleep(0.01)
        os.write(1, b"not \\xff text\\n")
        say("result")
    """
    await play(tmp_path, code, listener)
    assert listener.output == "é€\U0001f40d\nnot � text\n"


@pytest.mark.usefixtures("player")
async def test_a_gigabyte_of_output_is_read_and_dropped(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "OUTPUT_BYTES", 200_000)
    code = """
        for _ in range(200):
            os.write(1, b"x" * 99_999 + b"\\n")
        say("result")
    """
    await play(tmp_path, code, listener)
    assert len(listener.output) < 100_000
    assert listener.output.endswith("[the output beyond 200000 bytes is left out]\n")
    assert max(map(len, listener.output.splitlines())) <= process.OUTPUT_LINE_CHARACTERS


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("tab\tstays", "tab\tstays"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r50%\r100%", "100%"),
        ("end of line\r", "end of line"),
        ("\x9b31mC1\x85", "31mC1"),
        ("bell\x07 and\x00 nul", "bell and nul"),
    ],
)
def test_nothing_of_a_line_moves_a_terminal(line: str, shown: str) -> None:
    assert printable(line) == shown


@given(st.text(st.characters(max_codepoint=0x3FF) | st.sampled_from("\x1b[]\x07m0;\r\\")))
def test_no_line_keeps_a_control_character(line: str) -> None:
    for character in set(printable(line)) - {"\t", "\n"}:
        assert ord(character) >= 32
        assert not 0x7F <= ord(character) < 0xA0


# Its end


@pytest.mark.usefixtures("player")
async def test_grandchildren_go_with_their_group(tmp_path: Path) -> None:
    code = """
        grandchild = subprocess.Popen(["sleep", "300"])
        say("result", pid=grandchild.pid)
    """
    result = await play(tmp_path, code)
    await eventually_gone(result["pid"])


@pytest.mark.usefixtures("player")
async def test_grandchildren_go_with_a_child_that_ends_by_itself(tmp_path: Path) -> None:
    async with engine(tmp_path) as child:
        code = """
            print(subprocess.Popen(["sleep", "300"]).pid, flush=True)
            sys.exit(3)
        """
        listener = Listener()
        with pytest.raises(BuildError, match="status 3"):
            await child.do(job(code), listener)
        assert not child.is_alive
        await eventually_gone(int(listener.output))


@pytest.mark.usefixtures("player")
async def test_one_that_left_the_group_can_not_hold_up_the_end(tmp_path: Path) -> None:
    """It keeps the pipes open; a cancel must not wait for that."""
    code = """
        far = subprocess.Popen(["sleep", "300"], start_new_session=True)
        say("result", pid=far.pid)
    """
    async with asyncio.timeout(PATIENCE_S):
        result = await play(tmp_path, code)
    os.kill(result["pid"], signal.SIGKILL)


@pytest.mark.usefixtures("player")
async def test_a_cancel_ends_the_child_at_once(tmp_path: Path) -> None:
    listener = Listener()
    code = "print(os.getpid(), flush=True); time.sleep(300)"
    playing = asyncio.create_task(play(tmp_path, code, listener))
    async with asyncio.timeout(PATIENCE_S):
        while not listener.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    playing.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await playing
    assert is_gone(int(listener.output))


@pytest.mark.usefixtures("player")
async def test_a_cancel_at_any_moment_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    await play(tmp_path, "say('result')")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        playing = asyncio.create_task(play(tmp_path, "time.sleep(60)"))
        for _ in range(number):
            await asyncio.sleep(0)
        await asyncio.sleep(number * 0.0005 if number % 2 else 0)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
    assert players() == []
    await eventually_open(before)
    assert os.listdir(tmp_path) == ["player"]


@pytest.mark.usefixtures("player")
async def test_a_child_is_killed_once_and_for_all(tmp_path: Path) -> None:
    child = await start_engine(tmp_path)
    assert child.is_alive
    await child.kill()
    assert not child.is_alive
    await child.kill()
    with pytest.raises(BuildError, match="SIGKILL"):
        await child.do(job("say('result')"), Listener())


# The real one


async def test_the_engine_does_a_job(tmp_path: Path, listener: Listener) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(b"x" * 10_000)
    async with engine(tmp_path) as child:
        result = await child.do(
            {"v": 1, "job": "remove", "paths": [str(tree)], "measure": True}, listener
        )
    assert result["freed_bytes"] >= 10_000
    assert not tree.exists()


async def test_the_engine_dies_with_the_daemon(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from condastore.builders.process import start_engine

        async def main():
            child = await start_engine(Path(sys.argv[1]))
            print(child.pid, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, tmp_path, stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    pid = int(await daemon.stdout.readline())
    await asyncio.sleep(0.3)
    assert not is_gone(pid)
    daemon.kill()
    await daemon.wait()
    await eventually_gone(pid)


async def test_a_scratch_directory_that_is_gone_is_an_error_of_the_disk(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        await start_engine(tmp_path / "none")
    await eventually_open(before)
