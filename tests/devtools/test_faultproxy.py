"""The proxy does what the tests of faults rely on."""

import socket
import threading
from collections.abc import Iterator

import pytest

from devtools.faultproxy import FaultProxy, Silence, Trouble, proxied

TEXT = b"a piece of text"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    """In front of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        with proxied(listener.getsockname()[1]) as found:
            yield found


def echo(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            return


def ask(proxy: FaultProxy, text: bytes = TEXT) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", proxy.port), 20)
    connection.sendall(text)
    return connection


def received(connection: socket.socket, count: int = len(TEXT)) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def test_all_passes_without_trouble_also_slowly(proxy: FaultProxy) -> None:
    large = bytes(range(256)) * 2000
    with ask(proxy, large) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert received(connection, len(large)) == large
        assert connection.recv(1) == b""
    proxy.trouble.delay_s = 0.01
    proxy.trouble.drip = 1000
    with ask(proxy) as connection:
        assert received(connection) == TEXT
    assert proxy.passed == 2


def test_a_cut_resets_what_is_open_and_what_has_passed_enough(proxy: FaultProxy) -> None:
    with ask(proxy) as connection:
        assert received(connection) == TEXT
        proxy.cut()
        assert is_over(connection)
    proxy.trouble.cut_after = 10
    with ask(proxy) as connection:
        assert is_over(connection)
    proxy.trouble = Trouble(refuse=True)
    assert is_refused(proxy)


def test_a_half_close_ends_the_answers_only_once_they_are_there(proxy: FaultProxy) -> None:
    with ask(proxy) as connection:
        assert received(connection) == TEXT
        proxy.half_close()
        assert is_over(connection)


def test_what_is_corrupt_differs_by_a_bit(proxy: FaultProxy) -> None:
    proxy.trouble.corrupt = True
    with ask(proxy) as connection:
        found = received(connection)
    assert found != TEXT and len(found) == len(TEXT)


def test_a_black_hole_keeps_connections_open_and_passes_nothing(proxy: FaultProxy) -> None:
    for silence in (Silence.ANSWERS, Silence.BOTH):
        proxy.trouble.silence = silence
        with ask(proxy) as connection:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)


def is_over(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection, in whichever way."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_refused(proxy: FaultProxy) -> bool:
    try:
        with ask(proxy) as connection:
            return is_over(connection)
    except OSError:
        return True
