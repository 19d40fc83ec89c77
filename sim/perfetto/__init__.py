"""Perfetto's own trace processor, without a browser, as the judge of our timelines."""
