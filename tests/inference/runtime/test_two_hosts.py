"""Two network namespaces as two hosts: a job of torchrun over a network of its own ends as one on a single host."""

import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest

PROGRAM = """
import json, os, sys
import torch, pyro, pyro.distributions as dist, credo

def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    with pyro.plate("N", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

def guide(x):
    scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
    pyro.sample("loc", dist.Normal(pyro.param("at", torch.tensor(0.0)), scale))

torch.set_num_threads(1)
x = torch.linspace(-1.0, 3.0, 32)
fit = credo.fit(model, guide, x, steps=60, batch_size=8, compile=False, progress=False, plan="fast")
with open(os.path.join(sys.argv[1], os.environ.get("RANK", "alone")), "w") as file:
    json.dump([list(fit.losses), {name: value.item() for name, value in fit.params.items()}], file)
"""


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture
def hosts():
    """[(the command that runs something on a host, its address, its network)] of two hosts with one wire."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` here")
    own, number = uuid.uuid4().hex[:6], os.getpid() % 250 + 1
    names = [f"credo{own}{end}" for end in "ab"]
    try:
        for name in names:
            if (made := ip("netns", "add", name)).returncode:
                pytest.skip(f"`ip netns` is not allowed here: {made.stderr.strip()}")
        wires = [f"v{own}{end}" for end in "ab"]
        if (made := ip("link", "add", wires[0], "type", "veth", "peer", "name", wires[1])).returncode:
            pytest.skip(f"`ip link` is not allowed here: {made.stderr.strip()}")
        found = []
        for last, (name, wire) in enumerate(zip(names, wires, strict=True), 1):
            ip("link", "set", wire, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.{number}.{last}/24", "dev", wire)
            for device in (wire, "lo"):
                assert ip("-n", name, "link", "set", device, "up").returncode == 0
            found.append((["ip", "netns", "exec", name], f"10.77.{number}.{last}", wire))
        yield found
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.mark.slow
def test_two_hosts_end_as_one(hosts, tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    program = [str(tmp_path / "train.py"), str(tmp_path)]
    one = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, *program], env=one, timeout=200, check=True)
    running, logs = [], []
    meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0][1]}:29511", "--rdzv-id=two"]
    for host, (on_host, address, wire) in enumerate(hosts):
        started = [*on_host, sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
        logs.append(open(tmp_path / f"log{host}", "w"))
        env = {**one, "GLOO_SOCKET_IFNAME": wire}
        # Whose store it is: torch would look for the address of the endpoint among those of this machine's name.
        where = [*meet, f"--local-addr={address}", f"--rdzv-conf=is_host={int(host == 0)}"]
        running.append(subprocess.Popen([*started, *where, *program], env=env, stdout=logs[-1], stderr=logs[-1]))
    try:
        codes = [each.wait(200) for each in running]
    finally:
        for each in running:
            each.kill() if each.poll() is None else None
        for log in logs:
            log.close()
    assert codes == [0, 0], "".join((tmp_path / f"log{host}").read_text()[-2000:] for host in range(2))
    alone, *both = (json.loads((tmp_path / name).read_text()) for name in ("alone", "0", "1"))
    assert both[0] == both[1], "the same fit on both hosts"
    assert both[0][0] == pytest.approx(alone[0], rel=1e-5)
    assert both[0][1] == pytest.approx(alone[1], rel=1e-4)
