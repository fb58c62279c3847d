from dataclasses import dataclass, field

import pytest

from tailplane.deploy.supervisor import FIRST_DELAY, LAST_DELAY, LONG_LIFE, Supervisor, describe_exit, restart_delay


@dataclass(eq=False)
class Process:
    name: str = "worker-1"
    is_running: bool = True
    returncode: int | None = None
    starts: int = 0
    refuses: bool = False

    def start(self) -> None:
        if self.refuses:
            raise OSError("no room")
        self.starts += 1
        self.is_running, self.returncode = True, None

    def die(self, returncode: int = 1) -> None:
        self.is_running, self.returncode = False, returncode


@dataclass
class Said:
    lines: list[str] = field(default_factory=list)

    def __call__(self, name: str, what: str) -> None:
        self.lines.append(f"{name} {what}")


def test_a_dead_process_is_named_and_started_after_its_delay() -> None:
    process, said = Process(), Said()
    supervisor = Supervisor([process], said, now=0)
    process.die(-9)
    supervisor.tick(1)
    assert said.lines == ["worker-1 was killed by signal 9; starting again in 0.5 s"]
    supervisor.tick(1 + FIRST_DELAY - 0.01)
    assert process.starts == 0
    supervisor.tick(1 + FIRST_DELAY)
    assert process.starts == 1


def test_a_death_is_told_once() -> None:
    process, said = Process(), Said()
    supervisor = Supervisor([process], said, now=0)
    process.die()
    for now in (1.0, 1.1, 1.2):
        supervisor.tick(now)
    assert len(said.lines) == 1


def test_one_that_dies_young_again_and_again_waits_longer_each_time() -> None:
    process, said = Process(), Said()
    supervisor = Supervisor([process], said, now=0)
    now, waits = 0.0, []
    for _ in range(9):
        process.die()
        supervisor.tick(now)
        died = now
        while not process.is_running:
            now += 0.25
            supervisor.tick(now)
        waits.append(now - died)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_long_life_is_forgiven() -> None:
    process = Process()
    supervisor = Supervisor([process], Said(), now=0)
    for _ in range(3):
        process.die()
        supervisor.tick(0)
        supervisor.tick(LAST_DELAY)
    process.die()
    said = Said()
    supervisor._say = said
    supervisor.tick(LAST_DELAY + LONG_LIFE)
    assert said.lines == ["worker-1 ended with exit code 1; starting again in 0.5 s"]


def test_one_that_would_fail_again_is_left_until_it_is_renewed() -> None:
    process, said = Process(), Said()
    supervisor = Supervisor([process], said, now=0)
    process.die(2)
    supervisor.tick(0)
    supervisor.tick(1e9)
    assert process.starts == 0
    assert supervisor.hopeless == ["worker-1"]
    process.start()
    supervisor.renew([process], now=5)
    assert supervisor.hopeless == []
    process.die(1)
    supervisor.tick(6)
    assert said.lines[-1] == "worker-1 ended with exit code 1; starting again in 0.5 s"


def test_renewing_one_leaves_the_others_alone() -> None:
    first, second = Process("a"), Process("b")
    supervisor = Supervisor([first, second], Said(), now=0)
    first.die(2)
    second.die(2)
    supervisor.tick(0)
    first.start()
    supervisor.renew([first], now=1)
    assert supervisor.hopeless == ["b"]


def test_a_start_that_fails_is_told_and_tried_again() -> None:
    process, said = Process(refuses=True), Said()
    supervisor = Supervisor([process], said, now=0)
    process.die()
    supervisor.tick(0)
    supervisor.tick(0.5)
    assert said.lines[-1] == "worker-1 could not be started (no room); trying again in 1 s"
    process.refuses = False
    supervisor.tick(1.5)
    assert process.starts == 1


@pytest.mark.parametrize("deaths", [1, 10, 10_000])
def test_the_delay_has_a_bound(deaths: int) -> None:
    assert FIRST_DELAY <= restart_delay(deaths) <= LAST_DELAY


@pytest.mark.parametrize(
    ("returncode", "words"), [(None, "is gone"), (-15, "was killed by signal 15"), (3, "ended with exit code 3")]
)
def test_an_end_is_told_in_words(returncode: int | None, words: str) -> None:
    assert describe_exit(returncode) == words
