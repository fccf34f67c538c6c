"""The peers' half of the ingest benchmark: a folder into Chroma by LangChain or by LlamaIndex.

Each as its documentation does, everything at its default but the size of chunks, which is as much as the
encoder reads, with as much overlap as Cairn's. The clock runs from the first file to the last one stored, the
model being loaded. Prints one JSON line.

    python ingest.py langchain|llamaindex FOLDER MODEL STORE
"""

import json
import sys
import time
from pathlib import Path

TOKENS, OVERLAP = 254, 32  # [CLS] and [SEP] make it 256
COLLECTION = "bench"


def langchain(folder: Path, model: str, store: Path) -> tuple[float, int]:
    from langchain_chroma import Chroma
    from langchain_community.document_loaders import (
        BSHTMLLoader,
        CSVLoader,
        Docx2txtLoader,
        PyPDFLoader,
        TextLoader,
    )
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from transformers import AutoTokenizer

    loaders = {".pdf": PyPDFLoader, ".docx": Docx2txtLoader, ".html": BSHTMLLoader, ".csv": CSVLoader}
    embeddings = HuggingFaceEmbeddings(model_name=model, model_kwargs={"device": "cpu"})
    embeddings.embed_query("a text")
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        AutoTokenizer.from_pretrained(model), chunk_size=TOKENS, chunk_overlap=OVERLAP
    )
    started = time.perf_counter()
    documents = []
    for path in sorted(folder.iterdir()):
        documents += loaders.get(path.suffix, TextLoader)(str(path)).load()
    chunks = splitter.split_documents(documents)
    Chroma.from_documents(chunks, embeddings, collection_name=COLLECTION, persist_directory=str(store))
    return time.perf_counter() - started, len(chunks)


def llamaindex(folder: Path, model: str, store: Path) -> tuple[float, int]:
    import chromadb
    from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding
    from llama_index.vector_stores.chroma import ChromaVectorStore
    from transformers import AutoTokenizer

    embedding = HuggingFaceEmbedding(model_name=model, device="cpu")
    embedding.get_text_embedding("a text")
    encode = AutoTokenizer.from_pretrained(model).encode
    splitter = SentenceSplitter(
        chunk_size=TOKENS,
        chunk_overlap=OVERLAP,
        tokenizer=lambda text: encode(text, add_special_tokens=False),
    )
    started = time.perf_counter()
    collection = chromadb.PersistentClient(str(store)).create_collection(COLLECTION)
    context = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    VectorStoreIndex.from_documents(
        SimpleDirectoryReader(str(folder)).load_data(),
        storage_context=context,
        transformations=[splitter],
        embed_model=embedding,
    )
    return time.perf_counter() - started, collection.count()


if __name__ == "__main__":
    name, folder, model, store = sys.argv[1:]
    run = {"langchain": langchain, "llamaindex": llamaindex}[name]
    seconds, chunks = run(Path(folder), model, Path(store))
    print(json.dumps({"seconds": seconds, "chunks": chunks}))
