"""Upload an encoder, a corpus or adapters to the Hub, in one commit with the card; see `--help`."""

from hf_bark_semantic.cli.publish import main

if __name__ == "__main__":
    main()
