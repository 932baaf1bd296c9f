"""What the tests share: certificates, targets, and programs that are ended behind each test."""

import resource
import shutil

import pytest
from certificates import Certificates
from program import BINARY, REPOSITORY, Programs
from targets import Targets

PROMTOOL = REPOSITORY / ".venv/debian/usr/bin/promtool"


def pytest_sessionstart(session):
    """Nothing is skipped for want of a tool: `make test` installs them all."""
    missing = [tool for tool in ("curl", "openssl", "gnutls-cli", "ip", "nsenter", "cc") if not shutil.which(tool)]
    if missing:
        pytest.exit(f"needed and not here: {' '.join(missing)}; `make test` installs them", 1)
    if not (shutil.which("promtool") or PROMTOOL.exists()):
        pytest.exit(f"no promtool in the PATH nor at {PROMTOOL}; `make test` unpacks it", 1)
    if not BINARY.exists():
        pytest.exit(f"no program at {BINARY}; `make build` makes it", 1)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the last lines of each program's log with a failed test."""
    report = yield
    if report.failed:
        for program in [program for programs in Programs.alive for program in programs.running]:
            lines = program.log.splitlines()[-20:]
            report.sections.append((f"log of {program.directory.name}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def targets():
    targets = Targets()
    yield targets
    targets.close()


@pytest.fixture
def programs(tmp_path):
    """Starts magicalanes; each is held to a clean end when the test is over."""
    programs = Programs(tmp_path)
    yield programs
    programs.stop()


@pytest.fixture
def key(request):
    """A key for the targets' records that no other test uses."""
    return request.node.nodeid.replace(" ", "_")
