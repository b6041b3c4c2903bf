/* A file system without what LACKS names, for a program that is started with this in LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int lacks(const char *what)
{
    const char *all = getenv("LACKS");
    return all && strstr(all, what);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* CIFS before Linux 4.17, shared folders of VirtualBox, some file systems in user space. */
int fsync(int fd)
{
    struct stat stat;
    if (lacks("directory-sync") && !fstat(fd, &stat) && S_ISDIR(stat.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    return NEXT(fsync)(fd);
}

/* NFS without lockd. */
int flock(int fd, int operation)
{
    (void)fd, (void)operation;
    if (lacks("flock")) {
        errno = ENOLCK;
        return -1;
    }
    return NEXT(flock)(fd, operation);
}

/* 9p, virtiofs, sshfs, SMB. */
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (lacks("shared-map") && fd >= 0 && (flags & MAP_SHARED)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return NEXT(mmap)(address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if (lacks("shared-map") && fd >= 0 && (flags & MAP_SHARED)) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return NEXT(mmap64)(address, length, protection, flags, fd, offset);
}

/* FAT, exFAT. */
int link(const char *from, const char *to)
{
    if (lacks("link")) {
        errno = EPERM;
        return -1;
    }
    return NEXT(link)(from, to);
}

int linkat(int from, const char *path, int to, const char *name, int flags)
{
    if (lacks("link")) {
        errno = EPERM;
        return -1;
    }
    return NEXT(linkat)(from, path, to, name, flags);
}
