"""Export a corpus in fairseq's layout; see `--help`."""

from hf_bark_semantic.cli.export_corpus import main

if __name__ == "__main__":
    main()
