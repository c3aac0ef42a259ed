"""The version of this release: the package's, the images' and what an agent reports."""

VERSION = "1.0.0"
"""Decision D1 compares what agents report with MIN_VERSION_FORWARDER."""
