"""Judges the episode summary with Great Expectations: one suite a concern, one validation each."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.validate.rules import CONCERNS, ERROR, WARNING, Rule
from components.validate.summary import EpisodeSummary

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core import ExpectationSuiteValidationResult

FIXED_TIME = "1970-01-01T00:00:00+00:00"  # equal data must give equal documents, so no run has a time of its own


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the suites found.

    Attributes:
        failed: rule name -> the episodes that break it, ascending.
        results: concern -> Great Expectations' own result, without anything that differs between equal runs.
    """

    failed: Mapping[str, tuple[int, ...]]
    results: "Mapping[str, ExpectationSuiteValidationResult]"


def judge(rows: Sequence[EpisodeSummary], rules: Sequence[Rule]) -> Judgement:
    """Runs every rule over the summary table, one row an episode; nulls are not judged.

    Raises:
        RuntimeError: an expectation could not be evaluated at all.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when great_expectations is imported
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    severities = {ERROR: FailureSeverity.CRITICAL, WARNING: FailureSeverity.WARNING}
    table = _table(rows, rules)
    context = _context()
    asset = context.data_sources.add_pandas("episodes").add_dataframe_asset("summary")
    batch = asset.add_batch_definition_whole_dataframe("all")
    failed: dict[str, tuple[int, ...]] = {}
    results = {}
    for concern in CONCERNS:
        chosen = [rule for rule in rules if rule.concern == concern and not _all_null(table[rule.column])]
        if not chosen:
            continue
        suite = gx.ExpectationSuite(
            name=concern,
            expectations=[
                gxe.ExpectColumnValuesToBeBetween(
                    column=rule.column,
                    min_value=rule.low,
                    max_value=rule.high,
                    severity=severities[rule.severity],
                    meta={"rule": rule.name},
                )
                for rule in chosen
            ],
        )
        definition = gx.ValidationDefinition(name=concern, data=batch, suite=context.suites.add(suite))
        result = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": table},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["episode"]},
        )
        for each in result.results:
            if each.exception_info.get("raised_exception"):
                raise RuntimeError(f"suite {concern}: {each.exception_info}")
            config = each.expectation_config
            assert config is not None
            places = each.result.get("unexpected_index_list") or []
            failed[config.meta["rule"]] = tuple(sorted(int(place["episode"]) for place in places))
        results[concern] = _settle(result)
    return Judgement(failed=failed, results=results)


def _table(rows: Sequence[EpisodeSummary], rules: Sequence[Rule]) -> "pd.DataFrame":
    import pandas as pd

    columns = {rule.column: [row.values.get(rule.column) for row in rows] for rule in rules}
    return pd.DataFrame({"episode": [row.episode for row in rows], **columns}).astype(dict.fromkeys(columns, "float64"))


def _all_null(column: "pd.Series") -> bool:
    return bool(column.isna().all())


def _settle(result: Any) -> Any:
    """Takes out ids, times and the machine's traces, and orders what Great Expectations leaves in order of arrival."""
    result.meta = {
        "great_expectations_version": result.meta["great_expectations_version"],
        "run_id": {"run_name": "validate", "run_time": FIXED_TIME},
        "validation_time": FIXED_TIME,
        "batch_markers": {},
        "active_batch_definition": result.meta["active_batch_definition"],
        "batch_spec": {},
    }
    result.results.sort(key=lambda each: each.expectation_config.meta["rule"])
    for each in result.results:
        each.expectation_config.id = None
    return result


def _context() -> Any:
    """A context in memory: no folder for a site of the library's own, no progress bars and no log lines of it."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)
