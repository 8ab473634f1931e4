"""Draw what an encoder gets of a video: the frames of each window, and its pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.forks import survive_fork
from skdejavid.compat.optional import import_optional
from skdejavid.files.atomic import check_target, replace_file
from skdejavid.files.regular import path_of_file
from skdejavid.video.clips import ClipSpec, read_frames
from skdejavid.video.opening import VideoDecodeError
from skdejavid.video.settings import Settings, make_encoder, resolve_settings
from skdejavid.video.sources import as_sources
from skdejavid.video.windows import WindowPlan

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont
else:
    Image = import_optional("PIL.Image", "video", "A contact sheet")
    ImageDraw = import_optional("PIL.ImageDraw", "video", "A contact sheet")
    ImageFont = import_optional("PIL.ImageFont", "video", "A contact sheet")

__all__ = ["SheetRow", "contact_sheet", "draw_sheet", "write_contact_sheet"]

_HEIGHT = 96  # of a picture, in pixels
_GAP = 4
_PER_LINE = 8  # pictures
_LETTER, _LINE = 14, 20  # height of letters, and of a line of text
_LABELS = ("video", "encoder")  # of a line of frames, and of the line of pixels below it
_BACKGROUND, _TEXT = (255, 255, 255), (0, 0, 0)

# Of frames on one sheet, which then has about 80 million pixels.
_MOST_FRAMES = 2500


class SheetRow(NamedTuple):
    """One window: pictures (height, width, 3) of bytes, and what is written above them."""

    caption: str
    frames: Sequence[NDArray[np.uint8]]  # as a player shows them
    pixels: Sequence[NDArray[np.uint8]]  # as the encoder gets them


@survive_fork()
def contact_sheet(extractor: Any, video: Any, *, n_windows: int = 8) -> Image.Image:
    """Draw what the encoder of an extractor gets of a video, so that people can look at it.

    Parameters
    ----------
    extractor : TSEExtractor
        Its encoder is not run.
    video : str, path or ndarray
        A video as in `TSEExtractor.transform`.
    n_windows : int, default=8
        Largest number of windows, which are spread evenly over the video. There are fewer if they
        have more than 2500 frames together. The title has both numbers.

    Returns
    -------
    PIL.Image.Image
        For each window, and each of several widths, a line "video" with its frames as a player
        shows them, and below it a line "encoder" with the pixels that the encoder gets, with the
        normalization undone. Pixels of small frames are drawn as squares.

    Raises
    ------
    ImportError, TypeError, ValueError, FileNotFoundError, VideoDecodeError
        As in `TSEExtractor.transform`.
    """
    return _draw(extractor, video, n_windows)[0]


def write_contact_sheet(path: str, extractor: Any, video: Any, *, n_windows: int = 8) -> str:
    """Write the contact sheet of a video to a PNG file; see `contact_sheet`.

    Returns
    -------
    str
        The lines of its title, which tell how many windows it shows of how many.

    Raises
    ------
    ValueError
        If the path does not end with ``.png``, or leads to no regular file; and as `contact_sheet`.
    """
    if not path.lower().endswith(".png"):
        raise ValueError(
            f"a contact sheet is a PNG file, expected a name that ends with .png: {path}"
        )
    target = path_of_file(path)
    check_target(target)  # before the video is read
    sheet, title = _draw(extractor, video, n_windows)
    replace_file(target, lambda file: sheet.save(file, "png"))
    return title


def _draw(extractor: Any, video: Any, n_windows: int) -> tuple[Image.Image, str]:
    """Return the contact sheet of a video, and its title."""
    if n_windows < 1:
        raise ValueError(f"n_windows must be a positive int, got {n_windows}")
    settings = resolve_settings(extractor)
    video = as_sources([video])[0].video
    name = video if isinstance(video, str) else "the video"
    spread = partial(_spread, n_windows=n_windows)
    plan, prepared = _read(video, settings.spec, spread)
    of_players = replace(settings.spec, shorter_side=_HEIGHT, crop=None, geometry=None)
    again, shown = _read(video, of_players, spread)
    if not np.array_equal(plan.clip_frames, again.clip_frames):
        raise VideoDecodeError(f"{name}: reading it again gives different frames")
    encoder = make_encoder(extractor, settings)
    rows, inputs = [], _Inputs()
    with encoder.session():
        for window in spread(plan):
            for width in range(plan.window_clips.shape[1]):
                numbers = _frames_of(plan, window, width)
                batch = encoder.inputs([np.stack([prepared[number] for number in numbers])])
                values = batch.float().cpu().numpy()
                inputs.add(values)
                frames = [shown[number].transpose(1, 2, 0) for number in numbers]
                pixels = list(_as_pixels(values, settings))
                caption = _caption(plan, settings.spec, window, width, isinstance(video, str))
                rows.append(SheetRow(caption, frames, pixels))
    title = _title(name, plan, len(spread(plan)), settings, inputs)
    return draw_sheet(title, rows), title


class _Inputs:
    """Shape of the clips that an encoder gets, and extremes and mean of their numbers."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._least, self._most = np.inf, -np.inf
        self._sum, self._count = 0.0, 0

    def add(self, values: NDArray[np.float32]) -> None:
        self._shape = values.shape[1:]
        self._least = min(self._least, float(values.min()))
        self._most = max(self._most, float(values.max()))
        self._sum += float(values.sum(dtype=np.float64))
        self._count += values.size

    def __str__(self) -> str:
        return (
            f"{' x '.join(map(str, self._shape))} numbers from {self._least:.3g} to "
            f"{self._most:.3g}, mean {self._sum / self._count:.3g}"
        )


def _spread(plan: WindowPlan, n_windows: int) -> list[int]:
    """Return at most `n_windows` window numbers, spread evenly, and no more than a sheet shows."""
    n_frames = plan.window_clips[0].size * plan.clip_frames.shape[1]
    n_all = len(plan.window_clips)
    n_shown = min(n_windows, n_all, max(_MOST_FRAMES // n_frames, 1))
    return np.linspace(0, n_all - 1, n_shown).round().astype(int).tolist()


def _frames_of(plan: WindowPlan, window: int, width: int) -> list[int]:
    frames: list[int] = plan.clip_frames[plan.window_clips[window, width]].ravel().tolist()
    return frames


def _read(
    video: Any, spec: ClipSpec, spread: Callable[[WindowPlan], list[int]]
) -> tuple[WindowPlan, dict[int, NDArray[np.uint8]]]:
    """Return the last plan of a video, and by number the frames that are drawn."""
    for item in read_frames(video, spec):
        if isinstance(item, WindowPlan):
            plan, found = item, dict[int, NDArray[np.uint8]]()
            wanted = {
                number
                for window in spread(plan)
                for width in range(plan.window_clips.shape[1])
                for number in _frames_of(plan, window, width)
            }
        elif item.number in wanted:
            found[item.number] = item.pixels
    return plan, found


def _as_pixels(batch: NDArray[np.float32], settings: Settings) -> NDArray[np.uint8]:
    """Undo the normalization of a batch with one clip; return (n_frames, height, width, 3)."""
    if settings.layout == "BCHW":
        frames = batch.transpose(0, 2, 3, 1)
    else:
        frames = batch[0].transpose((1, 2, 3, 0) if settings.layout == "BCTHW" else (0, 2, 3, 1))
    if settings.std is not None:
        frames = frames * np.asarray(settings.std, np.float32)
    if settings.mean is not None:
        frames = frames + np.asarray(settings.mean, np.float32)
    return (frames * 255).round().clip(0, 255).astype(np.uint8)


def _caption(plan: WindowPlan, spec: ClipSpec, window: int, width: int, is_file: bool) -> str:
    begin, end = plan.width_spans[window, width]
    span = f"{begin:.2f} to {end:.2f} s" if is_file else f"{begin:.4g} to {end:.4g}, in frames"
    widths = np.asarray(spec.width, dtype=object).ravel()
    of_width = f", width {widths[width]}" if len(widths) > 1 else ""
    numbers = ", ".join(map(str, _frames_of(plan, window, width)))
    return f"window {window}{of_width} ({span}): frames {numbers}"


def _title(name: str, plan: WindowPlan, n_shown: int, settings: Settings, inputs: _Inputs) -> str:
    processor = "none" if settings.processor is None else settings.processor["class"]
    order = getattr(settings.spec.geometry, "order", (0, 1, 2))
    named = "".join("RGB"[channel] for channel in order)
    colors = "" if named == "RGB" else f", which exchanges colors: {named}"
    return (
        f"{os.path.basename(name)}: {n_shown} of {len(plan.window_clips)} window(s); "
        f"encoder {type(settings.encoder).__name__}, processor {processor}{colors}\n"
        f"mean {_as_text(settings.mean)}, std {_as_text(settings.std)}: the encoder gets {inputs}\n"
        f'lines "{_LABELS[0]}": frames as players show them; lines "{_LABELS[1]}": the same frames '
        "as the encoder gets them, with mean and std undone"
    )


def _as_text(value: Any) -> str:
    """Return a mean or deviation as short text."""
    if value is None:
        return "none"
    numbers = np.asarray(value, dtype=float).ravel()
    return " ".join(f"{number:.4g}" for number in numbers)


def draw_sheet(title: str, rows: Sequence[SheetRow]) -> Image.Image:
    """Draw a title, and for each row its caption, its frames, and below them its pixels.

    Parameters
    ----------
    title : str
        Lines of text.
    rows : sequence of SheetRow
        The windows.

    Returns
    -------
    PIL.Image.Image
        The sheet, in RGB. Every picture has the same height.
    """
    parts = [_draw_text(title)]
    for row in rows:
        parts += [_draw_text(row.caption), _draw_row(row)]
    width = max(part.width for part in parts) + 2 * _GAP
    height = sum(part.height + _GAP for part in parts) + _GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    top = _GAP
    for part in parts:
        sheet.paste(part, (_GAP, top))
        top += part.height + _GAP
    return sheet


def _draw_row(row: SheetRow) -> Image.Image:
    """Draw lines of pictures, whose columns have one width; pixels are below their frames."""
    lines = []
    for start in range(0, max(len(row.frames), len(row.pixels)), _PER_LINE):
        part = slice(start, start + _PER_LINE)
        lines += [[_scale(picture) for picture in line[part]] for line in (row.frames, row.pixels)]
    labels = [_draw_text(label) for label in _LABELS]
    margin = max(label.width for label in labels) + 2 * _GAP
    column = _GAP + max((image.width for line in lines for image in line), default=0)
    size = (margin + column * max(map(len, lines), default=0), len(lines) * (_HEIGHT + _GAP))
    drawn = Image.new("RGB", size, _BACKGROUND)
    for y, line in enumerate(lines):
        top = y * (_HEIGHT + _GAP)
        drawn.paste(labels[y % 2], (0, top + (_HEIGHT - _LINE) // 2))
        for x, image in enumerate(line):
            drawn.paste(image, (margin + x * column, top))
    return drawn


def _scale(picture: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    size = (max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT)
    how = Image.Resampling.NEAREST if image.height < _HEIGHT else Image.Resampling.BICUBIC
    return image.resize(size, how)


def _draw_text(text: str) -> Image.Image:
    font = ImageFont.load_default(_LETTER)
    lines = text.split("\n")
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    width = max(int(probe.textlength(line, font=font)) for line in lines) + 1
    image = Image.new("RGB", (width, _LINE * len(lines)), _BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        canvas.text((0, _LINE * number), line, fill=_TEXT, font=font)
    return image
