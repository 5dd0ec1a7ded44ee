/* The wall clock of a process, moved by what stands in a file that all processes of a run share (clock.py).
 *
 * Loaded by LD_PRELOAD: it takes the place of libc's functions that tell the time of day. Clocks that measure durations
 * are left alone, as a step of the machine's clock leaves them alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *moved_us;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("RXTASKS_CHAOS_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED)
        moved_us = found;
}

int clock_gettime(clockid_t which, struct timespec *now)
{
    if (!real_clock_gettime)
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real_clock_gettime(which, now);
    if (!failed && moved_us && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t by = *moved_us;
        now->tv_sec += by / 1000000;
        now->tv_nsec += by % 1000000 * 1000;
        if (now->tv_nsec < 0) {
            now->tv_nsec += 1000000000;
            now->tv_sec--;
        } else if (now->tv_nsec >= 1000000000) {
            now->tv_nsec -= 1000000000;
            now->tv_sec++;
        }
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    if (!failed && now) {
        now->tv_sec = found.tv_sec;
        now->tv_usec = found.tv_nsec / 1000;
    }
    return failed;
}

time_t time(time_t *where)
{
    struct timespec found;
    time_t seconds = clock_gettime(CLOCK_REALTIME, &found) ? (time_t)-1 : found.tv_sec;
    if (where)
        *where = seconds;
    return seconds;
}
