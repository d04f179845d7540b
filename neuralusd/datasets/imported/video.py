"""Frames of video files, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .scene import DatasetError

# Further ahead than this many seconds it is quicker to seek to a key frame than to decode all between.
_SEEK = 10.0


@dataclass(frozen=True)
class VideoSize:
    """Width and height in pixels, as stored; frames (0 where the file does not say), and frames per second."""

    width: int
    height: int
    count: int
    frames_per_second: float


def video_size(path: str | os.PathLike) -> VideoSize:
    """What a video file says about itself, before its pictures are turned.

    Raises:
        DatasetError: the file is missing, empty, or no video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        return VideoSize(stream.width, stream.height, stream.frames, float(stream.average_rate or 0.0))


def count_frames(path: str | os.PathLike) -> int:
    """The frames of a video that does not say how many it has, by going through it; they are not decoded.

    Raises:
        DatasetError: as `video_size`.
    """
    import av

    with _opened(path) as container:
        try:
            return sum(packet.size > 0 for packet in container.demux(video=0))
        except av.error.FFmpegError as error:
            raise DatasetError(f"{path} cannot be read: {error.strerror}; get the file again") from error


def video_frames(path: str | os.PathLike, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 sRGB at ascending indices, counted from 0 in the order they are shown.

    Pictures are turned as the file says (phones store them as the sensor lies). Frames are counted from the beginning;
    where one far ahead is looked for, indices are turned into times by the stream's average frame rate.

    Raises:
        DatasetError: the file is missing, empty, no video, or ends before a frame that is asked for.
    """
    import av

    wanted = list(indices)
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate, base = stream.average_rate, stream.time_base
        if not rate or not base:
            raise DatasetError(f"{path} does not say how many frames a second it has; convert it with ffmpeg")
        start = stream.start_time or 0
        position, counted = -1, True
        try:
            decoder = iter(container.decode(stream))
            for index in wanted:
                if index - position > _SEEK * float(rate):
                    # half a frame early, so that rounding never lands behind it
                    container.seek(start + int((index - 0.5) / rate / base), stream=stream)
                    decoder, counted = iter(container.decode(stream)), False
                while True:
                    frame = next(decoder, None)
                    if frame is None:
                        raise DatasetError(f"{path} ends before frame {index}; get the file again")
                    # the times of phones' clips are uneven, so as long as it can be it is counted
                    position = position + 1 if counted else round(float((frame.pts - start) * base * rate))
                    if position >= index:
                        break
                # the display matrix turns counter-clockwise, in degrees
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        except av.error.FFmpegError as error:
            raise DatasetError(f"{path} cannot be decoded: {error.strerror}; get the file again") from error


def _opened(path: str | os.PathLike) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading videos needs PyAV: pip install 'neuralusd[datasets]'") from error
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"there is no video {path}; download it as the dataset's documentation says")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty; get the file again")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise DatasetError(f"{path} is no video that can be read: {error.strerror}; get the file again") from error
    if not container.streams.video:
        container.close()
        raise DatasetError(f"{path} has no pictures in it; get the file again")
    return container
