"""Stage 2. Train an encoder on a labelled corpus; see `--help`."""

from hf_bark_semantic.cli.train_encoder import main

if __name__ == "__main__":
    main()
