"""Images as a video that says how it was made, by PyAV."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEOS = (".mp4", ".mov")
"""What a video's name ends in."""

# The best that this build of FFmpeg has, of what players everywhere show: H.264, else MPEG-4 part 2.
_ENCODERS = ("libx264", "libopenh264", "h264_videotoolbox", "mpeg4")
# 4:2:0 is what players show; without these names they guess a matrix by the size, and colours shift.
_COLORS = {"color_primaries": "bt709", "color_trc": "iec61966-2-1", "colorspace": "bt709", "color_range": "tv"}
# Bits a pixel, for encoders that cannot be asked for a quality.
_BITS = 0.5


def require_av() -> Any:
    """PyAV. Raises ImportError with the cure where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise ImportError("writing videos needs PyAV: pip install 'neuralusd[video]'") from error
    return av


class Video:
    """A video that is written image by image, in a `with`. It is in its place when it is whole, or not at all.

    An odd side gets a row or a column more, a copy of the last, since players want even ones.

    Args:
        path: .mp4 or .mov. rate: images a second.
        about: goes into the file's comment, with `info["neuralusd"]` of the first image but its time; see `read_about`.

    Raises:
        ImportError: PyAV is not installed. ValueError: another extension, or no rate.
    """

    def __init__(self, path: str | Path, rate: float | Fraction, about: dict[str, Any] | None = None):
        self._av = require_av()
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEOS:
            raise ValueError(f"{path} is no video that can be written; end its name in {' or '.join(VIDEOS)}")
        self.rate = Fraction(rate).limit_denominator(1001)
        if not 0 < self.rate <= 1000:
            raise ValueError(f"a video of {rate} images a second cannot be written; up to 1000 can")
        self.about = dict(about or {})
        self.codec = ""
        self.size: tuple[int, int] | None = None
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._file: Any = None
        self._stream: Any = None

    def __enter__(self) -> Video:
        return self

    def add(self, image: Image) -> None:
        """The next image. Raises ValueError where it has another size than the first; OSError: no room, no rights."""
        import numpy as np

        if self._file is None:
            self._begin(image)
        if image.size != self.size:
            raise ValueError(f"{self.path}: an image of {image.size} pixels does not fit a video of {self.size}")
        pixels = np.asarray(image.convert("RGB"))
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), "edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        self._file.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        try:
            if kind is not None:
                with suppress(OSError):  # what went wrong first is what is said
                    self._file.close()
                return
            self._file.mux(self._stream.encode())
            self._file.close()
            self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _begin(self, image: Image) -> None:
        self.size = image.size
        width, height = (side + side % 2 for side in image.size)
        self.codec, options, bits = self._encoder(width, height)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The index first: a browser plays what it has so far.
        self._file = self._av.open(
            str(self._partial), "w", format=self.path.suffix[1:].lower(), options={"movflags": "+faststart"}
        )
        made = {name: value for name, value in image.info.get("neuralusd", {}).items() if name != "time"}
        about = {**made, **self.about, "fps": round(float(self.rate), 6)}
        self._file.metadata["comment"] = json.dumps(about, ensure_ascii=False)
        self._stream = self._file.add_stream(self.codec, rate=self.rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        if bits:
            self._stream.bit_rate = bits

    def _encoder(self, width: int, height: int) -> tuple[str, dict[str, str], int]:
        """The first encoder that opens, its options, and bits a second where it wants them (else 0)."""
        for name in _ENCODERS:
            quality = {"crf": "16", "preset": "medium"} if name == "libx264" else {}
            bits = 0 if quality else max(200_000, int(width * height * self.rate * _BITS))
            options = {**_COLORS, **quality}
            try:
                trial = self._av.CodecContext.create(name, "w")
                trial.width, trial.height, trial.pix_fmt, trial.options = width, height, "yuv420p", options
                trial.time_base = 1 / self.rate
                if bits:
                    trial.bit_rate = bits
                trial.open()
                return name, options, bits
            except (self._av.error.FFmpegError, ValueError):  # is not in this build, or does not run on this machine
                continue
        raise OSError(f"this build of PyAV has none of {', '.join(_ENCODERS)}: pip install --upgrade av")


def read_about(path: str | Path) -> dict[str, Any]:
    """How a video was made; empty for a video of another maker. Raises OSError for what is no video."""
    with require_av().open(str(path)) as file:
        text = file.metadata.get("comment", "")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and "versions" in found else {}
