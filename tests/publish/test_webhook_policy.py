from __future__ import annotations

import hashlib
import hmac
import random
from email.utils import formatdate

import pytest

from stream_i3d.publish.webhook_policy import Schedule, judge, retry_after, sign

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204), "done"),
        ((408, 425, 429, 500, 502, 503, 504, 599), "again"),
        ((301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422), "refused"),
    ],
)
def test_each_status_is_taken_tried_again_or_refused(statuses: tuple[int, ...], verdict: str) -> None:
    assert {judge(status) for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("120", 120),
        (" 7 ", 7),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("999999", 3600),
        ("9" * 400, 3600),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(value: str | None, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds


def test_the_signature_is_an_hmac_of_time_and_body() -> None:
    expected = hmac.new(b"secret", b'1800000000.{"a":1}', hashlib.sha256).hexdigest()
    assert sign("secret", 1_800_000_000, b'{"a":1}') == f"t=1800000000,v1={expected}"


def test_each_camera_waits_by_itself_and_longer_each_time() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, None)
    waits = []
    now = 100.0
    for _ in range(6):
        assert not schedule.failed("door", now)
        (until,) = schedule.busy(now).values()
        waits.append(until - now)
        now = until
    assert schedule.busy(now) == {}
    assert all(0.8 * nominal <= wait <= 1.2 * nominal for wait, nominal in zip(waits, (1, 2, 4, 8, 8, 8), strict=True))
    assert len(set(waits[:5])) == 5
    schedule.failed("yard", now)
    assert list(schedule.busy(now)) == ["yard"]


def test_what_the_other_side_asks_for_is_waited_for_and_an_event_taken_forgets_all() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, None)
    schedule.failed("door", 0.0, at_least_s=60)
    assert schedule.busy(59.9) == {"door": 60.0}
    schedule.settled("door")
    assert schedule.busy(1.0) == {}


def test_an_event_is_given_up_after_its_time() -> None:
    schedule = Schedule(random.Random(1), 1.0, 8.0, give_up_s=10)
    assert [schedule.failed("door", now) for now in (0.0, 5.0, 9.9, 10.0)] == [False, False, False, True]
