"""Looks at the control plane and, through it, at the fleet."""

from collections.abc import Iterator

from tailplane.deploy import probe
from tailplane.deploy.doctor.access import check_access
from tailplane.deploy.doctor.finding import Finding, Verdict
from tailplane.deploy.doctor.installation import installed_version
from tailplane.protocol.urls import mask_url


def check_control_plane(url: str, *, is_expected: bool, api_key: str | None = None) -> Iterator[Finding]:
    """Look at the control plane and, through it, at the fleet.

    Args:
        is_expected: somebody has named it, so that its absence is a failure.
        api_key: signs what is asked; None: there is none.
    """
    health = probe.get_json(url, "/healthz", timeout=3.0)
    if health is None or health[0] != 200:
        what = "nobody answers" if health is None else f"/healthz answers {health[0]}: that is no control plane"
        if is_expected:
            remedy = "is TAILPLANE_URL right? Does the control plane run, and may this machine reach it?"
            yield Finding("control plane", Verdict.FAILURE, f"{mask_url(url)}: {what}", remedy)
        else:
            remedy = "`tailplane dev` starts one here; TAILPLANE_URL says where another is"
            yield Finding("control plane", Verdict.WARNING, f"{mask_url(url)}: {what}", remedy)
        return
    ready = probe.get_json(url, "/readyz", timeout=8.0)
    if ready is None or ready[0] != 200:
        why = ready[1].get("detail") if ready and isinstance(ready[1], dict) else None
        remedy = "look at its log; most often its TAILPLANE_REDIS_URL is wrong or Redis is down"
        detail = f"{mask_url(url)} is not ready: {why or 'no reason given'}"
        yield Finding("control plane", Verdict.FAILURE, detail, remedy)
        return
    yield _check_version(url)
    yield from check_access(url, api_key)
    yield from _check_fleet(url, api_key)


def _check_version(url: str) -> Finding:
    document = probe.get_json(url, "/openapi.json", timeout=5.0)
    info = document[1].get("info", {}) if document and isinstance(document[1], dict) else {}
    there, here = info.get("version"), installed_version()
    if there and here and there != here:
        remedy = "install the same version here and there"
        return Finding("control plane", Verdict.WARNING, f"{mask_url(url)} runs {there}, here is {here}", remedy)
    return Finding("control plane", Verdict.OK, f"{mask_url(url)} is ready, version {there or 'unknown'}")


def _check_fleet(url: str, api_key: str | None) -> Iterator[Finding]:
    answer = probe.get_json(url, "/v1/workers", 8.0, api_key)
    if answer is not None and answer[0] in (401, 403):
        yield Finding("workers", Verdict.SKIPPED, "not looked at: that takes a key with the scope admin")
        return
    workers = probe.list_items(url, "workers", 8.0, api_key)
    workflows = probe.list_items(url, "workflows", 8.0, api_key)
    if workers is None or workflows is None:
        remedy = "look at the control plane's log"
        yield Finding("workers", Verdict.FAILURE, "the control plane can't tell which there are", remedy)
        return
    if not workers:
        yield Finding("workers", Verdict.WARNING, "none is alive", "start one: tailplane worker TARGET")
    else:
        running = sum(worker.get("running", 0) for worker in workers)
        room = sum(worker.get("concurrency", 0) for worker in workers)
        yield Finding("workers", Verdict.OK, f"{len(workers)} alive, {running} of {room} places taken")
    served = {name for worker in workers for name in worker.get("workflows", ())}
    orphans = sorted(workflow["name"] for workflow in workflows if workflow["name"] not in served)
    if orphans:
        remedy = "start a worker that has them; until then their tasks wait"
        yield Finding("workflows", Verdict.WARNING, f"no living worker runs: {', '.join(orphans)}", remedy)
    elif workflows:
        yield Finding("workflows", Verdict.OK, f"{len(workflows)}, each with a living worker")
