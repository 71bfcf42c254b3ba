"""An encoder, a corpus or adapters to the Hub, in one commit with their card; `--help` says how."""

from hf_bark_semantic.cli.publish import main

if __name__ == "__main__":
    main()
