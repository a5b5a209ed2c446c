/* A model of how src/store publishes: the steps of Store::publish, by their numbers, and Store::start.
 *
 * Two writers and one reader, which reads by name or through `..data` (READER), in a directory with two names
 * (certificate and key). A writer can die after each operation on the file system, and starts anew. A death
 * can be a loss of power: what was not synced has then happened or has not. A run has at most DEATHS of them.
 *
 * Modelled: 1, 5, 7, 8, 9, 10, 11, 12, 13.
 * Not modelled:
 *   2. Claims: both writers publish the same names.
 *   3. Files to keep, an empty set and an unchanged one: each version replaces both files.
 *   4. Obstacles: no other program writes to the directory.
 *   6. Files to keep, as in step 3.
 * tests/model/check compares these numbers with those of the code. Of step 13, names that are not in the set
 * are left out: all sets have the same names. So are file systems without links.
 *
 * tests/model/check runs the model for each kind of directory (OWN; PLAIN, an own one with plain files from
 * before the helper; STICKY), and with faults (FAULT_...), each of which it must find.
 *
 * A set is known by its version. Versions are counted under the lock: they tell which set is newer.
 */

#ifndef VERSIONS
#define VERSIONS 2      /* the last version that is published */
#endif
#ifndef DEATHS
#define DEATHS 1        /* at most */
#endif
#define DIRECTORIES 9   /* hidden directories at most; number 0 is none */
#define INODES 4        /* of lock files at most; number 0 is none */

/* What a file or a name is, beside a version: */
#define NOTHING 0
#define LINK 100        /* a link through ..data */
#define PARTIAL 101     /* a file that is half written, or was not synced */

#define GONE 200        /* in the hand of a reader: a hidden directory that was removed meanwhile */

#ifdef PLAIN
#define OLDEST 1        /* the version of the plain files */
#else
#define OLDEST NOTHING
#endif

typedef Generation {
    bool exists;
    bool durable;       /* its own entry is synced */
    bool synced;        /* its entries and their files are synced */
    byte file[2];
};
Generation generation[DIRECTORIES];
byte data;              /* the hidden directory that ..data leads to */
byte name[2];

byte durable_data;      /* as a loss of power may bring them back */
byte durable_name[2];

byte lock_file;         /* its inode */
byte holder[INODES];    /* the writer that has locked an inode */
byte opened[3];         /* the inode that a writer has open */
byte inside;            /* how many writers hold the lock */

byte version = OLDEST;
byte deaths;
bool stands;            /* each name leads to a file, and must from now on */
byte ended;

byte held_by_name, held_through_data;   /* hidden directories in the hands of the readers */
byte seen_by_name[2], seen_through_data;

/* ---- The file system, an operation each. ---- */

inline make(directory) {
    directory = 1;
    do
    :: generation[directory].exists -> directory++
    :: else -> break
    od;
    assert(directory < DIRECTORIES);
    generation[directory].exists = true
}

inline forget(directory) {
    generation[directory].exists = false;
    generation[directory].durable = false;
    generation[directory].synced = false;
    generation[directory].file[0] = NOTHING;
    generation[directory].file[1] = NOTHING;
    if :: held_by_name == directory -> held_by_name = GONE :: else fi;
    if :: held_through_data == directory -> held_through_data = GONE :: else fi
}

inline sync() {
    durable_data = data;
    durable_name[0] = name[0];
    durable_name[1] = name[1];
    for (i : 1 .. DIRECTORIES - 1) { generation[i].durable = generation[i].exists }
    i = 0
}

inline lose_power() {
    if :: data = durable_data :: skip fi;
    if :: name[0] = durable_name[0] :: skip fi;
    if :: name[1] = durable_name[1] :: skip fi;
    for (i : 1 .. DIRECTORIES - 1) {
        if
        :: generation[i].exists && !generation[i].durable -> forget(i)
        :: generation[i].exists && !generation[i].synced ->
            if :: generation[i].file[0] != NOTHING -> generation[i].file[0] = PARTIAL :: else fi;
            if :: generation[i].file[1] != NOTHING -> generation[i].file[1] = PARTIAL :: else fi
        :: else
        fi
    }
    i = 0;
    sync();
    /* The readers begin anew. */
    held_by_name = GONE;
    held_through_data = GONE;
    seen_by_name[0] = OLDEST;
    seen_by_name[1] = OLDEST;
    seen_through_data = OLDEST
}

/* ---- What the code decides by. ---- */

#define FILE_BEHIND_DATA(n) (data == 0 -> NOTHING : generation[data].file[n])
#define LEADS_TO(n) (name[n] == LINK -> FILE_BEHIND_DATA(n) : name[n])
#ifdef STICKY
#define IS_RIGHT(n, set) (name[n] == generation[set].file[n])
#define RIGHT_NAME(n, set) generation[set].file[n]
#define NEEDS_REPAIR(n) (name[n] != generation[data].file[n])
#else
#define IS_RIGHT(n, set) (name[n] == LINK)
#define RIGHT_NAME(n, set) LINK
#define NEEDS_REPAIR(n) (name[n] == NOTHING)
#endif
#define IS_PLAIN(n) (name[n] != NOTHING && name[n] != LINK)

/* ---- The writers. ---- */

#define MAY_DIE if :: deaths < DEATHS -> deaths++; goto died :: true fi

/* Staged::new: the names that are not right, in a hidden directory of their own. */
inline stage(set) {
    atomic { make(staged) };
    MAY_DIE;
    for (n : 0 .. 1) {
        atomic { if :: !IS_RIGHT(n, set) -> generation[staged].file[n] = RIGHT_NAME(n, set) :: else fi };
        MAY_DIE
    }
}

/* Moves staged names to their places; `which` tells those of this time. */
inline place(which) {
    for (n : 0 .. 1) {
        atomic {
            if
            :: generation[staged].file[n] != NOTHING && (which) ->
                name[n] = generation[staged].file[n];
                generation[staged].file[n] = NOTHING
            :: else
            fi
        };
        MAY_DIE
    }
}

inline remove_leftovers() {
    for (h : 1 .. DIRECTORIES - 1) {
        if
        :: generation[h].exists && h != data ->
            generation[h].file[0] = NOTHING;
            MAY_DIE;
            atomic { forget(h) };
            MAY_DIE
        :: else
        fi
    }
    h = 0;
    for (n : 0 .. 1) {
        atomic { if :: name[n] == LINK && FILE_BEHIND_DATA(n) == NOTHING -> name[n] = NOTHING :: else fi }
    }
}

/* The published set is all there is: no other hidden directory, and no name that leads nowhere. */
inline assert_tidy() {
    for (i : 1 .. DIRECTORIES - 1) { assert(!generation[i].exists || i == data) }
    i = 0;
    assert(name[0] != LINK || data != 0);
    assert(name[1] != LINK || data != 0)
}

/* adopt_plain_files, of step 9. */
inline adopt() {
    atomic { make(adopted) };
    MAY_DIE;
    for (n : 0 .. 1) {
        generation[adopted].file[n] = LEADS_TO(n);
        MAY_DIE
    }
    generation[adopted].synced = true;
    stage(adopted);
    atomic { sync() };
    MAY_DIE;
    atomic { data = adopted };
    MAY_DIE;
    atomic { sync() };
    MAY_DIE;
    place(true);
    atomic { sync() };
    MAY_DIE
}

proctype Writer(byte me) {
    byte new, staged, adopted, n, h, i;
    bool starts = true;
    do
    :: version == VERSIONS && !starts -> break
    :: else ->
        /* 1. */
        atomic {
            if
            :: lock_file == 0 ->
                i = 1;
                do
                :: holder[i] != 0 || opened[3 - me] == i -> i++
                :: else -> break
                od;
                assert(i < INODES);
                lock_file = i;
                i = 0
            :: else
            fi;
            opened[me] = lock_file
        };
        atomic { holder[opened[me]] == 0 -> holder[opened[me]] = me };
#ifndef FAULT_LOCK_OF_A_REMOVED_FILE
        atomic {
            if
            :: lock_file != opened[me] -> holder[opened[me]] = 0; opened[me] = 0; goto next
            :: else
            fi
        };
#endif
        inside++;
        assert(inside == 1);
        MAY_DIE;
        if
        :: starts ->
            /* Store::start: repair_names, remove_leftovers. */
#ifndef FAULT_NO_REPAIR
            if
            :: data != 0 && (NEEDS_REPAIR(0) || NEEDS_REPAIR(1)) ->
                stage(data);
                place(NEEDS_REPAIR(n))
            :: else
            fi;
#endif
#ifndef FAULT_NO_SYNC_AT_START
            atomic { sync() };
            MAY_DIE;
#endif
#ifndef FAULT_NO_REMOVAL_AT_START
            remove_leftovers();
#endif
            atomic {
                assert(data == 0 || !NEEDS_REPAIR(0) && !NEEDS_REPAIR(1));
                assert_tidy();
                starts = false
            }
        :: !starts && version < VERSIONS ->
            version++;
            /* 5. */
            atomic { make(new) };
            MAY_DIE;
#ifdef FAULT_SWAP_BEFORE_WRITE
            data = new;
#endif
            /* 7. */
            for (n : 0 .. 1) {
                generation[new].file[n] = PARTIAL;
                MAY_DIE;
                generation[new].file[n] = version;
                MAY_DIE
            }
            /* 8. */
#ifndef FAULT_NO_SYNC_OF_FILES
            generation[new].synced = true;
#endif
            MAY_DIE;
            /* 9. */
#if !defined(STICKY) && !defined(FAULT_NO_ADOPTION)
            if :: IS_PLAIN(0) || IS_PLAIN(1) -> adopt() :: else fi;
#endif
            /* 10. */
            staged = 0;
            if
            :: !IS_RIGHT(0, new) || !IS_RIGHT(1, new) ->
                stage(new);
#if !defined(STICKY) && !defined(FAULT_MISSING_NAMES_AFTER_SWAP)
                place(name[n] == NOTHING);
#endif
            :: else
            fi;
#ifdef FAULT_NAMES_BEFORE_SWAP
            if :: staged != 0 -> place(true) :: else fi;
#endif
#ifndef FAULT_NO_SYNC_BEFORE_SWAP
            atomic { sync() };
#endif
            MAY_DIE;
            /* 11. */
            atomic {
                data = new;
#ifndef STICKY
                /* In an own directory, this is the moment for all names. */
                assert(LEADS_TO(0) == version && LEADS_TO(1) == version)
#endif
            };
            MAY_DIE;
            atomic { sync() };
            MAY_DIE;
            /* 12. */
#ifndef FAULT_NAMES_STAY
            if :: staged != 0 -> place(true) :: else fi;
#endif
            atomic { sync() };
            MAY_DIE;
            /* 13. */
#ifndef FAULT_LEFTOVERS_STAY
            remove_leftovers();
#endif
            atomic {
                stands = true;
                assert(IS_RIGHT(0, data) && IS_RIGHT(1, data));
                assert_tidy()
            }
        :: else
        fi;
        /* Directory::drop. */
        atomic { inside--; lock_file = 0 };
        atomic { holder[opened[me]] = 0; opened[me] = 0 };
        goto next;
died:
        atomic {
            inside--;
            holder[opened[me]] = 0;
            opened[me] = 0;
            if :: lose_power() :: skip fi;
            new = 0; staged = 0; adopted = 0; n = 0; h = 0; i = 0;
            starts = true;
            /* The old set stands, or the new one. */
            assert(data == 0 || generation[data].exists);
            assert(!stands || LEADS_TO(0) != NOTHING && LEADS_TO(1) != NOTHING);
            assert(data == 0 || generation[data].file[0] == generation[data].file[1] && generation[data].file[0] < LINK)
        };
next:
        atomic { new = 0; staged = 0; adopted = 0; n = 0 }
    od;
    atomic {
        ended++;
        /* Nothing is left over, the lock file included. */
        assert(ended < 2 || lock_file == 0)
    }
}

/* ---- The readers. ---- */

/* Opens the directory behind ..data once, and reads both files from it: one set, never an older one. */
proctype ReaderThroughData() {
    byte first, second;
end:
    do
    :: atomic { data != 0 -> held_through_data = data };
        atomic { first = (held_through_data == GONE -> NOTHING : generation[held_through_data].file[0]) };
        atomic {
            second = (held_through_data == GONE -> NOTHING : generation[held_through_data].file[1]);
            if
            :: held_through_data != GONE && first != NOTHING && second != NOTHING ->
                assert(first == second && first < LINK);
                assert(first >= seen_through_data);
                seen_through_data = first
            :: else
            fi;
            held_through_data = 0; first = 0; second = 0
        }
    od
}

/* Opens a name: a complete file, never an older one. The way through ..data takes two looks; a rotation
 * between them is the one reason for which a file may be gone. */
proctype ReaderByName() {
    byte n, found;
    bool must;
end:
    do
    :: atomic {
            if :: n = 0 :: n = 1 fi;
            held_by_name = (name[n] == LINK -> data : 0);
            found = (name[n] == LINK -> NOTHING : name[n]);
            must = stands
        };
        atomic {
            if
            :: held_by_name == GONE -> goto again
            :: held_by_name != 0 && held_by_name != GONE ->
                found = generation[held_by_name].file[n];
                /* It is being removed: a rotation came between. */
                if :: held_by_name != data && found == NOTHING -> goto again :: else fi
            :: else
            fi;
            assert(found != PARTIAL);
            assert(!must || found != NOTHING);
            assert(found == NOTHING || found >= seen_by_name[n]);
            seen_by_name[n] = (found == NOTHING -> seen_by_name[n] : found)
        };
again:
        atomic {
            held_by_name = 0; found = 0; n = 0; must = false;
#ifndef STICKY
            /* In an own directory, all names change at one moment. */
            assert(!stands || LEADS_TO(0) == LEADS_TO(1))
#endif
        }
    od
}

init {
    atomic {
#ifdef PLAIN
        name[0] = OLDEST; durable_name[0] = OLDEST; seen_by_name[0] = OLDEST;
        name[1] = OLDEST; durable_name[1] = OLDEST; seen_by_name[1] = OLDEST;
        stands = true;
#endif
        run Writer(1);
        run Writer(2);
        run READER()
    }
}
