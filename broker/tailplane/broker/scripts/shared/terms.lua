-- What the scripts share that move tasks which have terms: a class, and a key of which only so many may run at once.
-- This text stands before theirs.
-- KEYS  1 terms (hash): member -> class, limit, key, and since when it is due if it is blocked, a line each
--       2 blocked (zset): `queue, key, class and due, member` of each task that is due and whose key is full, as text
--       3 holders (zset): `key, member, worker` of each task that runs and has a key; `/` and its name is a workflow's
--         and `//` and its name a tenant's
--       4 limits (hash): key -> limit, and the queues that have tasks of it
--       5 turns (zset): `workflow/tenant` of each queue of another tenant than the default one that has tasks, due, later
--         or blocked; `~`, the version, which grows with each that is added; and `~limits`, which grows with limits only
--       and somewhere behind for each queue: due of class 0 (high), 1 (normal) and 2 (low) (zsets), doorbell (list)
-- A queue is of one tenant and workflow. Its name is the workflow for the default tenant, else `tenant/workflow`. The
-- doorbell is the workflow's.
-- A running set has of each member its queue, and in a second line the key that it holds: what is released is what is
-- held, whatever became of the terms. Keys and names have no line break.
-- A script that moves a task with a key first asks `lacking` for queues that it was not given, and returns them, before
-- it has written anything: its caller sends it again with these.
local function tenant_of(queue) return string.match(queue, '^([^/]+)/') or 'default' end

local function workflow_of(queue) return string.match(queue, '/(.+)$') or queue end

-- Note that a queue has tasks: workers that do not know of it look anew.
local function note_turn(queue)
  local tenant, workflow = string.match(queue, '^([^/]+)/(.+)$')
  if tenant and redis.call('ZADD', KEYS[5], 0, workflow .. '/' .. tenant) == 1 then
    redis.call('ZADD', KEYS[5], 'INCR', 1, '~')
  end
end

local function read_terms(said)
  if not said then return 1 end
  local class, limit, key, due = string.match(said, '^(%d)\n(%d*)\n([^\n]*)\n(%d*)$')
  return tonumber(class), key ~= '' and key or nil, limit, due
end

-- Return what a running set says of a member: its queue, and the key that it holds.
local function read_held(said)
  return string.match(said, '^[^\n]+'), string.match(said, '\n(.+)$')
end

-- Where the keys of each queue begin: the first one's at `first`; names from ARGV[first_name] on.
local function positions(first, first_name)
  local at = {}
  for k = first, #KEYS, 4 do
    at[ARGV[first_name + (k - first) / 4]] = k
  end
  return at
end

local function ring(bell)
  -- Tokens that nobody takes go after a minute; as many as this wake all workers there are.
  redis.call('LPUSH', KEYS[bell], '1')
  redis.call('LTRIM', KEYS[bell], 0, 999)
  redis.call('EXPIRE', KEYS[bell], 60)
end

local function count_holders(key)
  return redis.call('ZLEXCOUNT', KEYS[3], '[' .. key .. '\n', '(' .. key .. '\11')
end

local function limit_of(key, own)
  local said = redis.call('HGET', KEYS[4], key)
  return tonumber(said and string.match(said, '^%d+') or own)
end

local function queues_of(key)
  return string.gmatch(redis.call('HGET', KEYS[4], key) or '', '\n([^\n]+)')
end

local function lacking(key, at)
  local names = {}
  if key then
    for name in queues_of(key) do
      if not at[name] then names[#names + 1] = name end
    end
  end
  return names
end

-- Remember that a queue has tasks of a key; its limit too, where none is known or this is the newest one.
local function note_key(key, queue, limit, is_newest)
  local said = redis.call('HGET', KEYS[4], key)
  local kept, names = string.match(said or '', '^(%d+)(.*)$')
  names = names or ''
  if not string.find(names .. '\n', '\n' .. queue .. '\n', 1, true) then names = names .. '\n' .. queue end
  local now = (is_newest or not kept) and limit or kept
  if now .. names ~= said then redis.call('HSET', KEYS[4], key, now .. names) end
end

local function block(member, queue, class, key, limit, due)
  due = string.format('%015.0f', due)
  redis.call('ZADD', KEYS[2], 0, queue .. '\n' .. key .. '\n' .. class .. due .. '\n' .. member)
  redis.call('HSET', KEYS[1], member, class .. '\n' .. limit .. '\n' .. key .. '\n' .. due)
  note_key(key, queue, limit)
  note_turn(queue)
end

-- Take a task out of the blocked ones; whether it was there.
local function unblock(member, queue, class, key, limit, due)
  if not due or due == '' then return false end
  redis.call('HSET', KEYS[1], member, class .. '\n' .. limit .. '\n' .. key .. '\n')
  return redis.call('ZREM', KEYS[2], queue .. '\n' .. key .. '\n' .. class .. due .. '\n' .. member) == 1
end

-- Give a task to the due set of its class.
local function give(member, queue, class, due, at)
  redis.call('ZADD', KEYS[at[queue] + class], due, member)
  note_turn(queue)
  ring(at[queue] + 3)
end

-- Where the key is not full, give the first blocked tasks back to their due sets: of each queue as many, for which
-- of them has a free worker is not known. Whichever a claim finds in excess it blocks again. Returns how many.
local function admit(key, at, most)
  local given = 0
  if count_holders(key) < limit_of(key, 1) then
    for queue in queues_of(key) do
      local from = queue .. '\n' .. key
      local rows = redis.call('ZRANGE', KEYS[2], '[' .. from .. '\n', '(' .. from .. '\11', 'BYLEX', 'LIMIT', 0, most)
      for _, row in ipairs(rows) do
        local class, due, member = string.match(row, '\n(%d)(%d+)\n([^\n]+)$')
        local _, _, limit = read_terms(redis.call('HGET', KEYS[1], member))
        unblock(member, queue, class, key, limit or '1', due)
        give(member, queue, class, tonumber(due), at)
        given = given + 1
      end
    end
  end
  return given
end

-- Wake a worker for each queue that a tenant's bound keeps waiting. The next claim that finds it full notes them again.
local function call_tenant(key, at)
  for queue in queues_of(key) do ring(at[queue] + 3) end
  redis.call('HDEL', KEYS[4], key)
end

-- What follows when a task has left a due set, or a worker's running set, for another place than the other of the two:
-- its key, its workflow's bound and its tenant's have room for another one.
local function release(member, worker, queue, key, at)
  local place = '\n' .. member .. '\n' .. worker
  if redis.call('ZREM', KEYS[3], '/' .. workflow_of(queue) .. place) == 1 then
    ring(at[queue] + 3)
  end
  local tenant = '//' .. tenant_of(queue)
  if redis.call('ZREM', KEYS[3], tenant .. place) == 1 then call_tenant(tenant, at) end
  if key then
    redis.call('ZREM', KEYS[3], key .. place)
    if admit(key, at, 1) == 0 and count_holders(key) == 0 then redis.call('HDEL', KEYS[4], key) end
  end
end

-- Return which queues are needed, and lack, where a task that holds `key` leaves a worker's running set.
local function lacking_to_leave(queue, key, at)
  local names = lacking(key, at)
  for _, name in ipairs(lacking('//' .. tenant_of(queue), at)) do names[#names + 1] = name end
  if not at[queue] then names[#names + 1] = queue end
  return names
end

-- Take a task out of a worker's running set, with the key that it holds. Returns what the script is to return if that
-- can't be: 0, the worker holds it no more; or names of queues that are needed too. Else nil, the task's queue, and
-- where the queues' keys are.
local function leave(running, member, worker, first, first_name)
  local held = redis.call('HGET', KEYS[running], member)
  if not held then return 0 end
  local at, queue, key = positions(first, first_name), read_held(held)
  local names = lacking_to_leave(queue, key, at)
  if #names > 0 then return names end
  redis.call('HDEL', KEYS[running], member)
  release(member, worker, queue, key, at)
  return nil, queue, at
end
