"""The one version of the project: Python package, images, chart and CRDs carry it."""

VERSION = "0.1.0"
