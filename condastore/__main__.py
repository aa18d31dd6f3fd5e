"""`python -m condastore`"""

import sys

from condastore.cli import main

sys.exit(main())
