/* A member of a Corosync process group, for the benchmark: the same parts as those of Handover's members.
 *
 *   cpg flood BYTES WARM_UP_S SECONDS MEMBERS   sends as fast as flow control lets it, and counts what it is given
 *   cpg ping BYTES WARM_UP COUNT MEMBERS        one message outstanding: a line of nanoseconds for each
 *   cpg watch                                   says every view: "view MEMBERS"
 *   cpg join COUNT                              a line for each fresh group: nanoseconds of the join alone, and with
 *                                               the connection that every group needs
 *
 * It ends when its standard input does.
 */
#include <corosync/cpg.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MARK_EVERY = 4096, MARKS_MAX = 1 << 16, RETRY_US = 20 };

static uint64_t delivered, counted, from = UINT64_MAX, to, order = 14695981039346656037ull;
static uint64_t marks[MARKS_MAX];
static int marks_count;
static uint32_t me;
static uint64_t own;
static size_t members, views;
static int says_views;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void check(const char *what, cs_error_t error)
{
	if (error == CS_OK) return;
	fprintf(stderr, "%s: error %d\n", what, error);
	exit(1);
}

static void mix(uint64_t word) { order = (order ^ word) * 1099511628211ull; }

static void on_message(cpg_handle_t cpg, const struct cpg_name *group, uint32_t node, uint32_t pid, void *bytes, size_t length)
{
	uint64_t number, at = now();
	(void)cpg, (void)group, (void)pid;
	if (length < sizeof number) exit(1);
	memcpy(&number, bytes, sizeof number);
	delivered++;
	if (node == me) own++;
	if (at >= from && at < to) counted++;
	mix(node), mix(number);
	if (delivered % MARK_EVERY == 0 && marks_count < MARKS_MAX) marks[marks_count++] = order;
}

static void on_view(cpg_handle_t cpg, const struct cpg_name *group, const struct cpg_address *now_in, size_t count,
	const struct cpg_address *left, size_t left_count, const struct cpg_address *joined, size_t joined_count)
{
	(void)cpg, (void)group, (void)now_in, (void)left, (void)left_count, (void)joined, (void)joined_count;
	members = count;
	views++;
	if (says_views) printf("view %zu\n", count);
}

static cpg_callbacks_t callbacks = { on_message, on_view };

static cpg_handle_t open_cpg(void)
{
	cpg_handle_t cpg;
	cs_error_t error;
	while ((error = cpg_initialize(&cpg, &callbacks)) == CS_ERR_TRY_AGAIN || error == CS_ERR_LIBRARY) usleep(RETRY_US);
	check("cpg_initialize", error);
	check("cpg_local_get", cpg_local_get(cpg, &me));
	return cpg;
}

static void join(cpg_handle_t cpg, const char *name)
{
	struct cpg_name group;
	cs_error_t error;
	group.length = strlen(name);
	memcpy(group.value, name, group.length);
	while ((error = cpg_join(cpg, &group)) == CS_ERR_TRY_AGAIN) usleep(RETRY_US);
	check("cpg_join", error);
}

/* Waits for something to be told, and is told all of it. Ends the process with its standard input. */
static void listen_to(cpg_handle_t cpg, int ms)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = 0, .events = POLLIN } };
	check("cpg_fd_get", cpg_fd_get(cpg, &fds[0].fd));
	poll(fds, 2, ms);
	if (fds[1].revents) exit(0);
	if (fds[0].revents) {
		cs_error_t error = cpg_dispatch(cpg, CS_DISPATCH_ALL);
		if (error != CS_ERR_TRY_AGAIN) check("cpg_dispatch", error);
	}
}

static void flood(cpg_handle_t cpg, size_t bytes, double warm_up, double seconds, size_t everybody)
{
	char *message = calloc(1, bytes);
	struct iovec part = { message, bytes };
	uint64_t sent = 0, end;
	int said = 0;
	join(cpg, "bench");
	while (members < everybody) listen_to(cpg, 100);
	from = now() + (uint64_t)(warm_up * 1e9);
	to = from + (uint64_t)(seconds * 1e9);
	end = to + 500000000u;
	while (now() < end) {
		int room = 1;
		for (int i = 0; room && i < 32; i++) {
			uint64_t number = sent + 1;
			memcpy(message, &number, sizeof number);
			cs_error_t error = cpg_mcast_joined(cpg, CPG_TYPE_AGREED, &part, 1);
			if (error == CS_ERR_TRY_AGAIN) room = 0;
			else check("cpg_mcast_joined", error), sent++;
		}
		listen_to(cpg, room ? 0 : 1);
		if (said == 0 && now() >= from) said = 1, printf("measuring\n");
		if (said == 1 && now() >= to) {
			said = 2;
			printf("{\"delivered\":%lu,\"order\":[", counted);
			for (int i = 0; i < marks_count; i++) printf(i ? ",%lu" : "%lu", marks[i]);
			printf("]}\n");
		}
	}
	for (;;) listen_to(cpg, 1000);
}

static void ping(cpg_handle_t cpg, size_t bytes, int warm_up, int count, size_t everybody)
{
	char *message = calloc(1, bytes);
	struct iovec part = { message, bytes };
	uint64_t *taken = calloc(count, sizeof *taken);
	join(cpg, "bench");
	while (members < everybody) listen_to(cpg, 100);
	for (int i = -warm_up; i < count; i++) {
		uint64_t before = own, start = now();
		cs_error_t error;
		while ((error = cpg_mcast_joined(cpg, CPG_TYPE_AGREED, &part, 1)) == CS_ERR_TRY_AGAIN) usleep(RETRY_US);
		check("cpg_mcast_joined", error);
		while (own == before) listen_to(cpg, 1000);
		if (i >= 0) taken[i] = now() - start;
	}
	for (int i = 0; i < count; i++) printf("%lu\n", taken[i]);
	printf("end\n");
}

/* A handle that has left a group cannot join another one, so every group has its own. */
static void join_many(int count)
{
	for (int i = 0; i < count; i++) {
		char name[64];
		uint64_t start = now(), connected, known = views;
		cpg_handle_t cpg = open_cpg();
		connected = now();
		snprintf(name, sizeof name, "fresh-%d", i);
		join(cpg, name);
		while (views == known) listen_to(cpg, 1000);
		printf("%lu %lu\n", now() - connected, now() - start);
		cpg_finalize(cpg);
	}
	printf("end\n");
}

int main(int argc, char **argv)
{
	const char *part = argc > 1 ? argv[1] : "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(part, "flood") && argc == 6)
		flood(open_cpg(), atoi(argv[2]), atof(argv[3]), atof(argv[4]), atoi(argv[5]));
	else if (!strcmp(part, "ping") && argc == 6)
		ping(open_cpg(), atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	else if (!strcmp(part, "join") && argc == 3)
		join_many(atoi(argv[2]));
	else if (!strcmp(part, "watch") && argc == 2) {
		cpg_handle_t cpg = open_cpg();
		says_views = 1;
		join(cpg, "bench");
		for (;;) listen_to(cpg, 1000);
	} else {
		fprintf(stderr, "see the head of cpg.c\n");
		return 2;
	}
	return 0;
}
