"""The way out to channels: through the proxies, and with the authorities, of the daemon's own
variables (F45)."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from devtools.connectproxy import tunnelling
from devtools.localchannel.server import serve
from tests.acceptance.harness import running
from tests.acceptance.stories import specification

# Names that nobody can resolve, so whoever gets there came by the proxy.
PLAIN, ENCRYPTED = "plain.invalid", "encrypted.invalid"


def test_F45_channels_are_reached_through_proxies_and_with_a_ca_of_ones_own(
    tmp_path: Path, hostile_directory: Path
) -> None:
    authority = trustme.CA()
    authorities = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(authorities))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(ENCRYPTED).configure_cert(tls)
    with (
        # A proxy for plain HTTP is asked for whole URLs, of which this server takes the path.
        serve(hostile_directory) as plain,
        serve(hostile_directory, tls=tls) as encrypted,
        tunnelling(urlsplit(encrypted.root).port or 0) as proxy,
    ):
        variables = {
            "http_proxy": plain.root,
            "https_proxy": proxy.url,
            "no_proxy": "",
            "SSL_CERT_FILE": str(authorities),
        }
        with running(tmp_path / "data", **variables) as daemon:
            daemon.completed(daemon.submit(specification(f"http://{PLAIN}", "harmless")))
            build_id = daemon.submit(specification(f"https://{ENCRYPTED}", "unlisted-file"))
            daemon.completed(build_id)
        assert plain.requests["/noarch/harmless-1.0-0.conda"] == 1
        assert encrypted.requests["/noarch/unlisted-file-1.0-0.conda"] == 1
        assert list(proxy.asked) == [f"{ENCRYPTED}:443"]
