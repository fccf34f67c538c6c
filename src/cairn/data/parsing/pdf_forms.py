"""What was typed into a PDF's form, which is no part of the page's own text."""

import ctypes
from collections.abc import Callable

import pypdfium2 as pdfium
import pypdfium2.raw as raw

_MAX_FIELDS = 2_000
_MAX_BYTES = 1 << 16
_OFF = ("", "Off")


def open_form(document: pdfium.PdfDocument) -> pdfium.PdfFormEnv | None:
    """The document's form, to be opened before its pages; None where it has none."""
    if document.get_formtype() == raw.FORMTYPE_NONE:
        return None
    document.init_forms()
    return document.formenv


def filled_fields(form: pdfium.PdfFormEnv, page: pdfium.PdfPage) -> list[str]:
    """A line for each field with something in it: `name: value`."""
    lines = []
    for at in range(min(raw.FPDFPage_GetAnnotCount(page), _MAX_FIELDS)):
        field = raw.FPDFPage_GetAnnot(page, at)
        if not field:
            continue
        try:
            if raw.FPDFAnnot_GetSubtype(field) == raw.FPDF_ANNOT_WIDGET:
                value = _text(raw.FPDFAnnot_GetFormFieldValue, form, field)
                name = _text(raw.FPDFAnnot_GetFormFieldAlternateName, form, field)
                name = name or _text(raw.FPDFAnnot_GetFormFieldName, form, field)
                if value not in _OFF:
                    lines.append(f"- {name}: {value}")
        finally:
            raw.FPDFPage_CloseAnnot(field)
    return lines


def _text(ask: Callable[..., int], form: pdfium.PdfFormEnv, field: raw.FPDF_ANNOTATION) -> str:
    length = min(ask(form, field, None, 0), _MAX_BYTES)
    buffer = (ctypes.c_ushort * (length // 2 + 1))()
    ask(form, field, buffer, length)
    return " ".join(bytes(buffer)[: max(0, length - 2)].decode("utf-16-le", "replace").split())
