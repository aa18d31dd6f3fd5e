"""So many connections and no more; the others wait, and are served when there is room."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from hypercorn.config import Config

from condastore.errors import ConfigurationError
from condastore.http.listener import Listener, ServerConfig
from tests.patience import PATIENCE_S


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    await reader.read()
    writer.close()


async def answered(port: int, *, wait_s: float) -> asyncio.StreamWriter | None:
    """Returns a connection that was answered; None if it was not in time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\n")
    try:
        async with asyncio.timeout(wait_s):
            assert await reader.readline() == b"hello\n"
    except TimeoutError:
        writer.close()
        return None
    return writer


async def test_one_too_many_waits_until_another_ends() -> None:
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.limit(3)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    async with await asyncio.start_server(echo, sock=listener, backlog=4):
        held = [await answered(port, wait_s=PATIENCE_S) for _ in range(3)]
        assert all(held)
        assert listener.open == 3
        assert await answered(port, wait_s=0.2) is None
        assert "3 connections are open" in str(complaints[0]["exception"])
        for writer in held:
            assert writer is not None
            writer.close()
        late = await answered(port, wait_s=PATIENCE_S)
        assert late is not None
        late.close()
        for _ in range(6000):
            if listener.open:
                await asyncio.sleep(0.01)
        assert listener.open == 0


def test_the_limit_of_open_files_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condastore.http.listener.raise_file_limit", lambda: 1024)
    with Listener(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.limit(10_000)
        assert listener.most == 512
        listener.limit(100)
        assert listener.most == 100


@pytest.fixture
def encrypting(tmp_path: Path) -> Iterator[tuple[ServerConfig, ssl.SSLContext]]:
    """A server's configuration with a certificate, and what trusts it."""
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "pem")
    authority.configure_trust(trusting)
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM)
    config = ServerConfig(listener)
    config.certfile = config.keyfile = str(tmp_path / "pem")
    config.read_certificate()
    yield config, trusting
    listener.close()


@pytest.mark.parametrize("size", [0, 10_000_000])
async def test_an_encrypted_connection_ends_without_the_client_and_sends_everything(
    size: int, encrypting: tuple[ServerConfig, ssl.SSLContext]
) -> None:
    config, trusting = encrypting
    closing = asyncio.Event()

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The second one has to wait for the first.
        writer.write(bytes(size))
        writer.write(bytes(size))
        writer.close()
        if size == 0:
            async with asyncio.timeout(20):
                await writer.wait_closed()
        closing.set()

    def connected(port: int) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        return trusting.wrap_socket(plain, server_hostname="localhost")

    def received(client: ssl.SSLSocket) -> int:
        return sum(map(len, iter(lambda: client.recv(1 << 20), b"")))

    context = config.create_ssl_context()
    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as server:
        client = await asyncio.to_thread(connected, server.sockets[0].getsockname()[1])
        with client:
            async with asyncio.timeout(PATIENCE_S):
                await closing.wait()
            assert await asyncio.to_thread(received, client) == 2 * size


@pytest.mark.parametrize("name", ["localhost", ""])
async def test_a_certificate_that_is_renewed_while_it_is_read_is_taken_whole_or_not_at_all(
    name: str,
    encrypting: tuple[ServerConfig, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, trusting = encrypting
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    context = config.create_ssl_context()
    new = trustme.CA().issue_cert("localhost")
    with monkeypatch.context() as patch:
        renew(config, new, patch)
        config.read_certificate()
    with pytest.raises(ConfigurationError, match=r"can.t be used"):
        config.read_certificate()
    async with (
        asyncio.timeout(PATIENCE_S),
        await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
        ) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname=name
        )
        served = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    assert served == ssl.PEM_cert_to_DER_cert(new.cert_chain_pems[0].bytes().decode())


def renew(config: ServerConfig, new: trustme.LeafCert, patch: pytest.MonkeyPatch) -> None:
    """Puts a certificate in place that, once it is read, has another key beside it."""
    file = Path(str(config.certfile))
    key = file.read_text().partition("-----BEGIN CERTIFICATE")[0]
    new.private_key_and_cert_chain_pem.write_to_path(file)
    read = Config.create_ssl_context

    def then_mixed(self: Config) -> ssl.SSLContext | None:
        context = read(self)
        file.write_text(key + new.cert_chain_pems[0].bytes().decode())
        return context

    patch.setattr(Config, "create_ssl_context", then_mixed)
