"""Text for CSV files that people open in a spreadsheet."""


def safe_cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula: names are chosen by whoever they belong to."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
