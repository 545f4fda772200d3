"""Promotes a model to production only where it beats the one that is there, on the very same test images."""

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsight.errors import SparsightError
from sparsight.stores.lineage import Lineage, fitted
from sparsight.stores.registry import PROMOTED_AT, ModelRegistry, ModelVersion, resolve

PROMOTION = "sparsight.promotion"
JUDGED_AT = "sparsight.judged_at"
LOWER_IS_BETTER = frozenset({"calibration_error", "loss", "mistake_severity", "hierarchical_distance"})
_TOLERANCE = 1e-9
"""0.85 - 0.8 is a little less than 0.05."""
_FORCE = "to promote it all the same, say why: --force 'REASON'."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a version may be promoted, and why.

    Attributes:
        candidate: the version in question.
        incumbent: what is in production, if anything.
        allowed: whether it may.
        reason: a sentence for people.
        hint: what to do about a refusal.
        gain: how much better the candidate is, where that can be said; negative where it is worse.
        in_place: the candidate is the incumbent.
    """

    candidate: ModelVersion
    incumbent: ModelVersion | None
    allowed: bool
    reason: str
    hint: str = ""
    gain: float | None = None
    in_place: bool = False


def judge(
    candidate: ModelVersion, incumbent: ModelVersion | None, *, metric: str = "macro_f1", by: float = 0.0
) -> Verdict:
    """Say whether a version may take the place of another. Nothing is changed.

    Args:
        candidate: the version to promote.
        incumbent: the one in production; None lets anything through.
        metric: what to compare, as recorded with both.
        by: the least gain that counts; by default any.

    Raises:
        SparsightError: `by` isn't 0 or more.
    """
    if not (by >= 0 and math.isfinite(by)):
        raise SparsightError(f"The least gain is {by}; expected 0 or more.")
    if incumbent is None:
        reason = f"{candidate.name} has nothing in production yet."
        return Verdict(candidate=candidate, incumbent=None, allowed=True, reason=reason)
    if incumbent.reference == candidate.reference:
        reason = f"{candidate.reference} is in production already."
        return Verdict(candidate=candidate, incumbent=incumbent, allowed=True, reason=reason, in_place=True)
    ours, theirs = (Lineage.of_tags(version.tags) for version in (candidate, incumbent))
    return (
        _not_measured(candidate, incumbent, metric)
        or _not_comparable(candidate, incumbent, ours, theirs)
        or _compared(candidate, incumbent, metric, by, ours, theirs)
    )


def promote(
    registry: ModelRegistry,
    reference: str,
    *,
    metric: str = "macro_f1",
    by: float = 0.0,
    images: Path | None = None,
    force: str | None = None,
) -> Verdict:
    """Put a version into production where it may be, or where somebody insists; the reason is recorded with it.

    Args:
        registry: where the model is.
        reference: the version, such as `photos@latest`.
        metric: what to compare.
        by: the least gain that counts.
        images: an images folder on whose test split both are tested now; by default their recorded scores count.
        force: why to promote it although it doesn't win; kept with the version.

    Returns:
        The verdict; nothing was changed unless it allows it, but for a note that the version was judged.

    Raises:
        SparsightError: there is no such version, `by` or `force` make no sense, or the registry can't be reached.
    """
    if force is not None and not force.strip():
        raise SparsightError("The reason to force a promotion is empty.", hint="Say why: --force 'REASON'")
    candidate = resolve(registry, reference)
    incumbent = in_production(registry, candidate.name)
    verdict = _verdict(registry, candidate, incumbent, images, metric, by)
    if not verdict.in_place:
        registry.tag(candidate, {JUDGED_AT: _now()})
    if verdict.in_place or not (verdict.allowed or force):
        return verdict
    registry.promote(candidate, _record(verdict, metric, force))
    return verdict if verdict.allowed else replace(verdict, allowed=True, reason=f"{verdict.reason} Forced: {force}")


def _verdict(
    registry: ModelRegistry,
    candidate: ModelVersion,
    incumbent: ModelVersion | None,
    images: Path | None,
    metric: str,
    by: float,
) -> Verdict:
    from sparsight.evaluation.retest import UnlikeImagesError

    try:
        contenders = (candidate, incumbent) if images is None else _tested_now(registry, candidate, incumbent, images)
    except UnlikeImagesError as error:
        hint = f"Train the newer one on images like the older one's; or, {_FORCE}"
        return Verdict(candidate=candidate, incumbent=incumbent, allowed=False, reason=error.problem, hint=hint)
    return judge(*contenders, metric=metric, by=by)


def _tested_now(
    registry: ModelRegistry, candidate: ModelVersion, incumbent: ModelVersion | None, images: Path
) -> tuple[ModelVersion, ModelVersion | None]:
    if incumbent is None or incumbent.reference == candidate.reference:
        return candidate, incumbent
    from sparsight.data.packed import PackedImages
    from sparsight.evaluation.retest import retested

    packed = PackedImages(images)
    return retested(registry, candidate, packed), retested(registry, incumbent, packed)


def in_production(registry: ModelRegistry, name: str) -> ModelVersion | None:
    """Find the version of a model that is in production."""
    return next((version for version in registry.versions(name) if version.stage == "production"), None)


def _record(verdict: Verdict, metric: str, force: str | None) -> dict[str, str]:
    told: dict[str, Any] = {"over": verdict.incumbent.reference if verdict.incumbent else None}
    if verdict.gain is not None:
        lineage = Lineage.of_tags(verdict.candidate.tags)
        told |= {"metric": metric, "gain": round(verdict.gain, 6), "test_digest": lineage.test_digest}
    if not verdict.allowed:
        told |= {"forced": force, "against": verdict.reason}
    return {PROMOTED_AT: _now(), PROMOTION: fitted(told)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def promotion_of(version: ModelVersion) -> dict[str, Any]:
    """Read what was recorded when a version was promoted; empty where it never was."""
    try:
        content = json.loads(version.tags.get(PROMOTION, ""))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _not_measured(candidate: ModelVersion, incumbent: ModelVersion, metric: str) -> Verdict | None:
    for version in (candidate, incumbent):
        metrics = Lineage.of_tags(version.tags).metrics
        if not math.isfinite(metrics.get(metric, math.nan)):
            has = f"it has {', '.join(sorted(metrics))}" if metrics else "it has no numbers at all"
            reason = f"{version.reference} has no {metric} recorded; {has}."
            hint = f"Take one that both have: --metric NAME; or, {_FORCE}"
            return Verdict(candidate=candidate, incumbent=incumbent, allowed=False, reason=reason, hint=hint)
    return None


def _not_comparable(candidate: ModelVersion, incumbent: ModelVersion, ours: Lineage, theirs: Lineage) -> Verdict | None:
    if ours.test_digest and ours.test_digest == theirs.test_digest:
        return None
    untested = [v.reference for v, each in ((candidate, ours), (incumbent, theirs)) if not each.test_digest]
    if untested:
        reason = f"There is no telling which test images {' and '.join(untested)} were measured on."
        hint = f"Compare classifiers that stand on them, in its place; or, {_FORCE}"
    else:
        reason = (
            f"{candidate.reference} was tested on other images or labels ({ours.test_images:,}) than "
            f"{incumbent.reference} ({theirs.test_images:,}), so their scores can't be compared."
        )
        hint = f"Test both on one images folder, the outputs/images of a run's data_prep: --images FOLDER; or, {_FORCE}"
    return Verdict(candidate=candidate, incumbent=incumbent, allowed=False, reason=reason, hint=hint)


def _compared(
    candidate: ModelVersion, incumbent: ModelVersion, metric: str, by: float, ours: Lineage, theirs: Lineage
) -> Verdict:
    here, there = ours.metrics[metric], theirs.metrics[metric]
    gain = there - here if metric in LOWER_IS_BETTER else here - there
    allowed = gain > _TOLERANCE and gain + _TOLERANCE >= by
    scores = f"{metric} {here:.4f} against {there:.4f} on the same {ours.test_images:,} test images"
    reason = f"{candidate.reference} {_outcome(gain, by, allowed)} {incumbent.reference}: {scores}."
    hint = "" if allowed else f"Train a better one; or, {_FORCE}"
    return Verdict(candidate=candidate, incumbent=incumbent, allowed=allowed, reason=reason, hint=hint, gain=gain)


def _outcome(gain: float, by: float, allowed: bool) -> str:
    if allowed:
        return f"gains {gain:.3g} over"
    if abs(gain) <= _TOLERANCE:
        return "is no better than"
    return f"loses by {-gain:.3g} to" if gain < 0 else f"gains only {gain:.3g}, less than the {by:g} asked for, over"
