"""Keys for tests: one service, a client that it knows and a stranger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stream_i3d.config import SecurityConfig
from stream_i3d.transport.keys import ClientKeys, ServerKeys, load_client_keys, load_server_keys, write_new_keys


@dataclass(frozen=True)
class Ring:
    """Key files in a folder: `service`, `stranger` and `other` in it, `friend` in `clients`, which is let in."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Ring:
        for name in ("service", "stranger", "other"):
            write_new_keys(folder, name)
        write_new_keys(folder / "clients", "friend")
        return cls(folder)

    @property
    def clients(self) -> Path:
        """The folder of those who are let in."""
        return self.folder / "clients"

    @property
    def security(self) -> SecurityConfig:
        """The service's configuration."""
        return SecurityConfig(key=str(self.folder / "service.key_secret"), clients=str(self.clients))

    def server(self) -> ServerKeys:
        """The service's keys, with an allow-list of their own as in each of its processes."""
        keys = load_server_keys(self.security)
        assert keys is not None
        return keys

    def client(self, name: str = "clients/friend", server: str = "service") -> ClientKeys:
        """The keys of a client that expects the service to be `server`."""
        keys = load_client_keys(self.folder / f"{name}.key_secret", self.folder / f"{server}.key")
        assert keys is not None
        return keys

    @property
    def refused(self) -> dict[str, tuple[ClientKeys | None, str]]:
        """Clients that must get nothing, and what each is told."""
        return {
            "unknown key": (self.client("stranger"), "does not know your key"),
            "no key": (None, "lets in clients with keys only"),
            "wrong server key": (self.client(server="other"), "--server-key is not its public key"),
        }

    def let_in(self, name: str) -> None:
        """Put a public key file into the folder of those who are let in."""
        (self.folder / f"{name}.key").rename(self.clients / f"{name}.key")
