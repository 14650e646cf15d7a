"""Cron as everybody writes it is what Kubeflow reads, and what Kubeflow would not take is named by its field."""

import pytest

from model.errors import UserError
from pipelines.cluster.cron import kubeflow_cron


@pytest.mark.parametrize(
    ("text", "kubeflow"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("*/15 8-18 * * 1-5", "0 */15 8-18 * * 1-5"),
        ("0 0 9 ? * MON", "0 0 9 ? * MON"),
        ("0,30 0-23/2 1,15 jan-DEC/3 sun,Sat", "0 0,30 0-23/2 1,15 jan-DEC/3 sun,Sat"),
        ("59 59 23 31 12 6", "59 59 23 31 12 6"),
        ("0/20 0 * * 0", "0 0/20 0 * * 0"),
    ],
)
def test_a_time(text: str, kubeflow: str) -> None:
    assert kubeflow_cron(text) == kubeflow


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nightly", "is no time: give minute, hour"),
        ("* * *", "is no time"),
        ("0 0 3 * * * 2027", "is no time"),
        ("60 3 * * *", r"the minute '60': it must be \*, a number from 0 to 59, a range such as 0-59"),
        ("0 24 * * *", "the hour '24'"),
        ("0 3 0 * *", "the day of month '0': .* from 1 to 31"),
        ("0 3 L * *", "the day of month 'L'"),
        ("0 3 * 13 *", "the month '13': .*; JAN to DEC are 1 to 12"),
        ("0 3 * * 7", "the weekday '7': .* from 0 to 6.*; SUN to SAT are 0 to 6"),
        ("0 3 * * MON-SUN", "the weekday 'MON-SUN'"),
        ("0 3 * * $", r"the weekday '\$'"),
        ("*/0 3 * * *", r"the minute '\*/0'"),
        ("0, 3 * * *", "the minute ''"),
        ("0 18-8 * * *", "the hour '18-8'"),
        ("60 0 3 * * *", "the second '60'"),
        ("٣ 3 * * *", "the minute '٣'"),
        ("*/٣ 3 * * *", "the minute"),
    ],
)
def test_what_is_none_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        kubeflow_cron(text)
