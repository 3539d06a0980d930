"""Every error of `storage`, as a tree. Each message is a sentence that a person can act on, without passwords.

StorageError
├── AddressUnusable      the address names no database that Parley can use
├── DatabaseUnavailable  it cannot be reached, opened or written
├── DatabaseLocked       another process uses the same SQLite file
├── DatabaseDamaged      the SQLite file failed its check
├── DiskFull             there is no room left to write
├── ClaimLost            another process answers this message now
├── SchemaTooOld         `parley migrate` has not been run
└── SchemaTooNew         a newer Parley has migrated it
"""


class StorageError(Exception):
    """Base of all errors of this package."""


class AddressUnusable(StorageError):
    pass


class DatabaseUnavailable(StorageError):
    pass


class DatabaseLocked(StorageError):
    pass


class DatabaseDamaged(StorageError):
    pass


class DiskFull(StorageError):
    pass


class ClaimLost(StorageError):
    pass


class SchemaTooOld(StorageError):
    pass


class SchemaTooNew(StorageError):
    pass
