import sys

from mlog.cli.main import main

sys.exit(main())
