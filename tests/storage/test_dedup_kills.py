"""Ctrl-C and kill -9 of ``s3blobs dedup`` at every one of its steps: no blob is lost, and run again it completes."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest
from checked_sites import Checked
from command_line import document, one_line
from converted_blobs import begin_sharing, below, bytes_of, own, references
from servers import faults
from sites import as_ours, commit_blobs, wait_until
from test_cli_fsck import Command
from test_inventory_kills import ENDINGS, running

from collective.s3blobstorage.maintenance.gc.control import lease_key, read_control

pytestmark = pytest.mark.clear  # nothing is shared where keys of ours encrypt

LOGO, VIDEO = os.urandom(3000), os.urandom(200_000)

# Of each kind of request that it makes, in their order: method and a part of its target.
STEPS = {
    "lease": ("PUT", "/gc/lease/"),
    "listing": ("GET", "prefix=blobs"),
    "look at its own": ("HEAD", "/blobs/"),
    "marks": ("GET", "condemned"),
    "reference": ("PUT", "/blobs/"),
    "look at the shared one": ("HEAD", "/objects/"),
    "read": ("GET", "/blobs/"),
    "copy": ("PUT", "/objects/"),
    "delete": ("POST", "delete"),
}


@pytest.fixture
def closed(make_site, settings, proxy, tmp_path):
    """A site of two logos and three videos; what its revisions must be; the command through the proxy."""
    through = dataclasses.replace(settings, endpoint_url=proxy.endpoint_url)
    site = make_site("filestorage", owner="www.example.org", preflight=False, gc_on_pack="off")
    with Checked(site) as checked:
        commit_blobs(checked.db, one=LOGO, two=LOGO, a=VIDEO, b=VIDEO, c=VIDEO, alone=b"alone")
        begin_sharing(settings)
        kept = checked.kept()
        site.close_all()
    return Command(site, through, tmp_path), kept, bytes_of(settings, kept)


# What changes nothing is as good as not asked.
WHERES = [(step, where) for step, (method, _) in STEPS.items() for where in ("before", "answer")]
WHERES = [(step, where) for step, where in WHERES if where == "before" or STEPS[step][0] in ("PUT", "POST")]


@ENDINGS
@pytest.mark.parametrize("step, where", WHERES)
def test_it_ends_there(closed, settings, proxy, step, where, ending):
    """``before``: the request never came to the store; ``answer``: it did, and nobody was told."""
    command, kept, wanted = closed
    method, target = STEPS[step]
    nth = 2 if step in ("look at its own", "marks", "reference") else 1
    proxy.reset()
    # By Ctrl-C what is under way ends; of what was killed nothing comes later.
    seconds = 2.0 if ending == signal.SIGINT else None
    rule = proxy.fail(faults.hang(where, seconds=seconds), method=method, target=target, nth=nth)
    arguments = ("dedup", "--min-size", "1", "--concurrency", "1")
    with running(command.conf(), *arguments, store=command.store) as process:
        wait_until(lambda: rule.hits or process.poll() is not None, 60)
        assert rule.hits, process.communicate()
        process.send_signal(ending)
        process.communicate(timeout=60)
    assert process.returncode == (130 if ending == signal.SIGINT else -ending)
    proxy.forgive()
    assert bytes_of(settings, kept) == wanted
    if ending == signal.SIGKILL:
        _let_the_lease_end(command, settings, had_begun=step != "lease" or where == "answer")
    told = document(command.run("--min-size", "1", "--json", verb="dedup"))
    assert told["failed"] == {} and bytes_of(settings, kept) == wanted
    assert len(own(settings)) == 1 and len(references(settings)) == 5 and len(below(settings, "objects/")) == 2
    assert told["shared"]["blobs"] + told["converted"]["blobs"] == told["asking"] == 5
    told = document(command.run("--deep", "--json"))
    assert set(told["found"].values()) == {0} and told["orphaned"]["blobs"] == 0, told


def _let_the_lease_end(command, settings, *, had_begun):
    if had_begun:
        result = command.run("--min-size", "1", verb="dedup")
        assert result.returncode == 2 and "or was killed: run it again" in one_line(result)
    with as_ours(settings) as store:  # ten minutes later
        store.put_bytes(lease_key(read_control(store).generation), b"")
