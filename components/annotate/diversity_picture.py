"""The picture of a diversity report: a word cloud of each set, the most frequent actions, and what is new in the test.

Equal counts give equal bytes: a fixed seed for the clouds, no dates.
"""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.annotate.diversity import Coverage, Diversity, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, INK, SOFT, PALE, ROSE = "#2a6fdb", "#c8452f", "#16181d", "#8a8f98", "#e6e8ec", "#e39a8c"
SHADES = ("#17345f", "#1f4f9e", "#2a6fdb", "#5c8fe4")  # of words, from the most frequent quarter to the least
BARS = 20  # actions
GROUPS = 14  # robots and tasks
ROWS = 6  # bars are no thicker than with so many
LONGEST = 38  # characters of a label
DOTS_PER_INCH = 130
CLOUD = 1500, 660  # pixels


def save_picture(path: Path, diversity: Diversity) -> None:
    """Writes a PNG of four panels; two where there is no test set."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = 2 if diversity.test else 1
    style: dict[Any, Any] = {"font.size": 9, "axes.edgecolor": SOFT, "text.color": INK, "axes.labelcolor": INK}
    with plt.rc_context(style):
        margins: Any = {"rect": (0.012, 0.012, 0.976, 0.976), "w_pad": 0.12}
        figure = plt.figure(figsize=(7 * columns, 8.6), layout=ConstrainedLayoutEngine(**margins))
        parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.45), hspace=0.04)
        # layouts of their own: the labels of the bars must not make the clouds smaller
        clouds, bars = (part.subplots(1, columns, squeeze=False)[0] for part in parts)
        _cloud(clouds[0], diversity.train, diversity, "Training set")
        _bars(bars[0], diversity)
        if diversity.test:
            _cloud(clouds[1], diversity.test, diversity, "Test set")
            _outside(bars[1], diversity)
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
        plt.close(figure)


def _cloud(axis: "Axes", counts: Counter[str], diversity: Diversity, title: str) -> None:
    """Actions as large as they are frequent; red: outside of the training set's most frequent."""
    from matplotlib import font_manager
    from wordcloud import WordCloud

    top, order = diversity.top, ranked(counts)
    shade = {action: SHADES[len(SHADES) * place // len(order)] for place, action in enumerate(order)}
    cloud = WordCloud(
        width=CLOUD[0],
        height=CLOUD[1],
        font_path=font_manager.findfont("DejaVu Sans"),
        background_color="white",
        prefer_horizontal=1.0,
        relative_scaling=0.5,
        max_words=150,
        max_font_size=130,
        min_font_size=11,
        margin=4,
        random_state=0,
        color_func=lambda word, **_: shade[word] if word in top else RED,
    )
    # the order of equal counts must not depend on the order in which they were counted
    cloud.generate_from_frequencies({action: counts[action] for action in order})
    axis.imshow(cloud.to_array(), interpolation="bilinear")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color(PALE)
    axis.set_title(f"{title}: {counts.total():,} segments, {len(counts):,} different actions", fontsize=11, loc="left")
    if any(action not in top for action in counts):
        said = f"red: outside of the {diversity.most_frequent} most frequent training actions"
        axis.set_xlabel(said, color=RED, fontsize=8, loc="left")


def _bars(axis: "Axes", diversity: Diversity) -> None:
    """The most frequent training actions, and their share of the test set beside them."""
    shown = ranked(diversity.train)[:BARS][::-1]
    places = range(len(shown))
    sets = [("training set", diversity.train, BLUE)]
    if diversity.test:
        sets.append(("test set", diversity.test, SOFT))
    height = 0.76 / len(sets)
    for number, (label, counts, colour) in enumerate(sets):
        shares = [100 * counts[action] / counts.total() for action in shown]
        offset = 0.38 - height * (number + 0.5)
        axis.barh([place + offset for place in places], shares, height=height, color=colour, label=label)
    axis.set_yticks(list(places), [_short(action) for action in shown])
    axis.set_xlabel("share of the set's segments, %")
    axis.set_title("Most frequent training actions", fontsize=11, loc="left")
    _plain(axis, len(shown))
    if len(sets) > 1:
        axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)


def _outside(axis: "Axes", diversity: Diversity) -> None:
    """Share of the test's different actions outside of the most frequent, of all, each robot and its tasks."""
    every = [one for one in diversity.coverage if one.outside_share is not None]
    groups = sorted(sorted(every, key=_importance)[:GROUPS], key=lambda one: (one.robot, one.task))[::-1]
    shares = [100 * (one.outside_share or 0.0) for one in groups]
    colours = [INK if not one.robot else RED if not one.task else ROSE for one in groups]
    axis.barh(range(len(groups)), shares, height=0.62, color=colours)
    for place, (one, share) in enumerate(zip(groups, shares, strict=True)):
        axis.text(share + 1.2, place, f"{share:.0f}%  ({one.outside} of {one.test_actions})", va="center", fontsize=8)
    axis.set_yticks(range(len(groups)), [_short(one.task or one.robot or "all") for one in groups])
    axis.set_xlim(0, 116)
    axis.set_xticks(range(0, 101, 20))
    more = f"\n{len(every) - len(groups)} tasks with less are in coverage.csv" if len(every) > len(groups) else ""
    axis.set_xlabel(f"test actions outside of the {diversity.most_frequent} most frequent training actions, %{more}")
    axis.set_title("What is new in the test set: all, by robot, by task", fontsize=11, loc="left")
    _plain(axis, len(groups))


def _importance(one: Coverage) -> tuple[bool, bool, float, str, str]:
    """All first, then robots, then the tasks with most that is new."""
    return bool(one.robot), bool(one.task), -(one.outside_share or 0.0), one.robot, one.task


def _plain(axis: "Axes", rows: int) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_ylim(rows - max(rows, ROWS) - 0.6, rows - 0.4)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=PALE, linewidth=0.8)
    axis.set_axisbelow(True)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
