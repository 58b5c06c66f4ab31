"""The scenarios of bench/scenarios in short: each promise, without the figures."""
import os

import box
import bursts
import disks
import harness
import kills
import outages
import pytest
import soak

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, control groups or other users")
loop = pytest.mark.skipif(not os.path.exists("/dev/loop-control"), reason="needs loop devices: a file system of its own")
DISKS = [pytest.param(kind, marks=(root, loop) if kind in ("aborted", "hangs") else root)
         for kind in disks.KINDS if kind != "slow"]


@pytest.fixture(name="folder")
def fixture_folder():
    """One that user nobody may enter too."""
    with harness.folder() as path:
        yield path


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=root if kind in ("dns", "resolver") else ()) for kind in outages.KINDS])
def test_an_outage_loses_nothing_and_is_soon_over(folder, kind):
    result = outages.run(folder, kind, seconds=3, rate=2000, before=2.5, timeout="1s")
    assert result["ok"], result


def test_kills_cost_what_was_in_memory(folder):
    result = kills.run(folder, kills=3, rate=2000, between=(1.5, 2.5))
    assert result["ok"], result
    # A second after the far side went away the disk has nearly all.
    assert all(kill["lost"] < (kill["end"] - kill["first"]) / 2 for kill in result["kills"]), result


@root
@pytest.mark.parametrize("rate", [5000, 20000])
def test_a_small_container_is_enough(folder, rate):
    result = box.run(folder, harness.BINARY, rate, seconds=3)
    assert result["ok"], result


@root
@pytest.mark.parametrize("setup,size", [("root", 3200), ("stock", 600)])
def test_a_burst_that_fits_the_queue_arrives_whole(folder, setup, size):
    with harness.Sink() as sink, bursts.of_agent(folder, setup, sink) as agent:
        result = bursts.run(sink, agent, [size], times=2)
        agent.stop()
    assert result["shares"] == {size: [100, 100]}, result


def test_one_fault_after_the_other_loses_nothing(folder):
    result = soak.run(folder, seconds=30, every=3, lasting=1.5, rate=5000)
    assert result["ok"], result
    assert result["peak_rss_mib"] < 64, result


@pytest.mark.parametrize("kind", DISKS)
def test_a_broken_disk_is_recovered_from(folder, kind):
    result = disks.run(folder, kind, memory="6MiB", overrun=3)
    assert result["ok"], result
    assert result["dropped"].get("buffer_full", 0) > 0 or kind == "removed", "it was not needed"
