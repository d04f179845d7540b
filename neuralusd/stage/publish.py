"""Files of a stage that appear together, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pxr import Sdf, Tf

from .errors import SaveError
from .open import quiet, usd_reason


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside `output`, so that what is finished in it only has to be renamed; it goes when that is done.

    A layer that USD holds of `output` is then read from the new file.

    Raises:
        SaveError: the folder cannot be made, or what was done with it failed; names `output` and the reason.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".neuralusd-", dir=output.parent))
    except OSError as error:
        raise SaveError(f"{output} cannot be written: {error.strerror}. Check its folder's permissions.") from error
    try:
        yield staging
    except (OSError, Tf.ErrorException) as error:
        reason = usd_reason(error) if isinstance(error, Tf.ErrorException) else error
        raise SaveError(
            f"{output} cannot be written: {reason}. Check its folder's permissions and the disk."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    with quiet():
        loaded = Sdf.Layer.Find(str(output))
        if loaded:
            loaded.Reload(force=True)
