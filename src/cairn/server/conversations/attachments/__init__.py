"""attachments: files beside a message of the page, read once; the model is given their text whole.

What is too long for that is refused: it belongs into a collection. An attachment is its owner's alone, and
goes where its conversation goes.
"""
