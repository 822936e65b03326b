"""A Ceph object gateway on one machine: one monitor, one OSD on a sparse file, one radosgw. No systemd, no Docker.

Needs root and Debian's ``ceph-mon ceph-osd radosgw ceph-common``. Everything listens on 127.0.0.1 only; the daemons
know each other by one keyring, which the monitor takes over when it is made.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import uuid
from pathlib import Path

from .ca import CertificateAuthority
from .process import ServerFailed, ServerProcess, free_port

PACKAGES = ("ceph-mon", "ceph-osd", "radosgw", "ceph-common")
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool")
KMS_KEY = "testkey-1"  # the id of the only key that the testing KMS knows
OSD_BYTES = 20 * 1024**3  # of the sparse file: room for the large-blob tests; disk is used as data arrives
START_SECONDS = 60.0  # each step; the whole start takes about 15 s on two cores

CAPABILITIES = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "client.rgw": ("mon", "allow *", "osd", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *"),
}

CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = {folder}/keyring
run_dir = {folder}
log_file = {folder}/$name.log
log_to_stderr = false
mon_cluster_log_file = {folder}/cluster.log
admin_socket =
crash_dir = {folder}
# one OSD holds everything: one copy of each object, few placement groups
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
# a disk that the rest of the machine fills is no reason to refuse writes
mon_data_avail_crit = 0
mon_data_avail_warn = 0

[mon]
mon_data = {folder}/mon

[osd]
osd_data = {folder}/osd
osd_objectstore = bluestore
bluestore_block_size = {osd_bytes}
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
osd_op_num_shards = 2
# a change of a bucket waits for gateways that do not answer, one that was killed too; Ceph's default is 30 s
osd_client_watch_timeout = 5
osd_max_pg_log_entries = 200
osd_min_pg_log_entries = 100

[client.rgw]
rgw_data = {folder}/rgw
rgw_frontends = {frontends}
rgw_enable_usage_log = false
rgw_thread_pool_size = 64
# deleted data is freed within seconds: tests look at what is left
rgw_gc_obj_min_wait = 1
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 5
rgw_crypt_require_ssl = {require_ssl}
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = {kms_key}=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""


def available() -> str | None:
    """None when Ceph can be started here, else the reason why not, for a skipped test."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"Ceph is not installed ({', '.join(missing)} missing): apt-get install {' '.join(PACKAGES)}"
    if os.geteuid() != 0:
        return "Ceph's daemons are started as root only"
    return None


def install() -> None:
    """``apt-get install`` the packages when S3BLOBS_APT=1, root, and something is missing; else nothing.

    Takes about 20 s. Raises ServerFailed with apt's last lines.
    """
    if os.environ.get("S3BLOBS_APT") != "1" or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    if all(shutil.which(program) for program in PROGRAMS):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-q", *arguments], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(f"apt-get {arguments[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


class Ceph:
    """A gateway with one S3 user, over http and https; dies with the process that started it.

    Methods may be called from any thread, one at a time. The data is gone with ``folder``, which the caller removes.

    :param folder: an empty folder for data and logs
    :param authority: issues the certificate of the https endpoint
    :param sse_over_http: accept customer and KMS keys without TLS too; Ceph's own default is no
    """

    region = "default"  # the only zonegroup's api name is empty; Ceph verifies any region's signature

    def __init__(self, folder: Path, authority: CertificateAuthority, *, sse_over_http: bool = False) -> None:
        self.folder = folder
        self.authority = authority
        self.sse_over_http = sse_over_http
        self.access_key = ""
        self.secret_key = ""
        self.port = 0
        self.tls_port = 0
        self._mon: ServerProcess | None = None
        self._osd: ServerProcess | None = None
        self._gateway: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<Ceph {self.endpoint_url} {self.tls_endpoint_url} in {self.folder}>"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def ca_bundle(self) -> Path:
        return self.authority.bundle

    @property
    def pid(self) -> int | None:
        """The gateway's process id, None while it does not run."""
        return self._gateway.pid if self._gateway else None

    def start(self) -> Ceph:
        """Make the cluster, start it, make the user. Raises ServerFailed with the tail of a log."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir(exist_ok=True)
        mon_port, self.port, self.tls_port = free_port(), free_port(), free_port()
        self._write_configuration(mon_port)
        try:
            self._start_cluster()
            self._gateway = self._daemon("radosgw", "-n", "client.rgw")
            self._start_gateway()
            self.access_key, self.secret_key = self.create_user("s3blobs")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End gateway, OSD and monitor in this order."""
        for server in (self._gateway, self._osd, self._mon):
            if server:
                server.stop(3.0)  # radosgw waits for connections that clients keep alive

    def kill(self) -> None:
        """SIGKILL the gateway: requests in flight are lost, the cluster behind it lives on."""
        if self._gateway:
            self._gateway.kill()

    def restart(self) -> None:
        """The gateway runs again on the same ports; ends a running one first."""
        if self._gateway:
            self._gateway.stop(3.0)
            self._start_gateway()

    def create_user(self, name: str) -> tuple[str, str]:
        """Make an S3 user who may make buckets; returns access key and secret key."""
        made = self._run(
            "radosgw-admin", "-n", "client.rgw", "user", "create", f"--uid={name}", f"--display-name={name}"
        )
        key = json.loads(made)["keys"][0]
        return key["access_key"], key["secret_key"]

    def _write_configuration(self, mon_port: int) -> None:
        certificate = self.authority.issue("ceph")
        frontends = (
            f"beast endpoint=127.0.0.1:{self.port} ssl_endpoint=127.0.0.1:{self.tls_port} tcp_nodelay=1 "
            f"ssl_certificate={certificate.chain} ssl_private_key={certificate.key}"
        )
        self._fsid = str(uuid.uuid4())
        text = CONFIGURATION.format(
            folder=self.folder,
            fsid=self._fsid,
            mon_port=mon_port,
            frontends=frontends,
            osd_bytes=OSD_BYTES,
            kms_key=KMS_KEY,
            require_ssl=str(not self.sse_over_http).lower(),
        )
        self._configuration = self.folder / "ceph.conf"
        self._configuration.write_text(text)
        self._mon_port = mon_port

    def _start_cluster(self) -> None:
        monmap = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", self._fsid, monmap, configured=False)
        self._make_keyring()
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(self._keyring))
        self._mon = self._daemon("ceph-mon", "-i", "a")
        self._mon.start()
        self._mon.wait_until(lambda: self._asks("quorum_status"), START_SECONDS)
        osd = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._osd = self._daemon("ceph-osd", "-i", "0")
        self._osd.start()
        self._osd.wait_until(lambda: json.loads(self._ceph("osd", "stat"))["num_up_osds"] == 1, START_SECONDS)

    def _make_keyring(self) -> None:
        self._keyring = self.folder / "keyring"
        self._keyring.touch(mode=0o600)
        for entity, capabilities in CAPABILITIES.items():
            pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
            granted = [word for service, what in pairs for word in ("--cap", service, what)]
            self._run("ceph-authtool", str(self._keyring), "--gen-key", "-n", entity, *granted, configured=False)

    def _start_gateway(self) -> None:
        self._gateway.start()
        self._gateway.wait_until(self._answers, START_SECONDS)

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca_bundle))
        for connection in (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=10),
            http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=10, context=context),
        ):
            try:
                connection.request("GET", "/")
                if connection.getresponse().status != 200:
                    return False
            finally:
                connection.close()
        return True

    def _daemon(self, program: str, *arguments: str) -> ServerProcess:
        command = [program, "-f", "-c", str(self._configuration), *arguments]
        return ServerProcess(program, command, self._environment(), self.folder / f"{program}.out")

    def _environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}

    def _asks(self, *words: str) -> bool:
        try:
            self._ceph(*words)
        except ServerFailed:
            return False
        return True

    def _ceph(self, *words: str) -> str:
        return self._run("ceph", "--connect-timeout", "5", "-f", "json", *words)

    def _run(self, program: str, *arguments: str, configured: bool = True) -> str:
        command = [program, *(["-c", str(self._configuration)] if configured else []), *arguments]
        try:
            done = subprocess.run(
                command, env=self._environment(), capture_output=True, text=True, timeout=START_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"{program} {arguments[0]} did not end within {START_SECONDS:g} s") from None
        if done.returncode:
            raise ServerFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout


class CephOverTls:
    """The same gateway seen through its https endpoint, whose certificate only ``ca_bundle`` verifies."""

    region = Ceph.region

    def __init__(self, server: Ceph) -> None:
        self.server = server
        self.endpoint_url = self.tls_endpoint_url = server.tls_endpoint_url
        self.ca_bundle = server.ca_bundle
        self.access_key, self.secret_key = server.access_key, server.secret_key

    def __repr__(self) -> str:
        return f"<CephOverTls {self.endpoint_url}>"

    def create_user(self, name: str) -> tuple[str, str]:
        return self.server.create_user(name)

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()
