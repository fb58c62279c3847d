-- Take due tasks out of the queues into a worker's running set: a higher class first, in a class the longest due first.
-- A task whose key is full is not taken but blocked: out of the way of those behind it.
-- KEYS  1-4 of shared/terms.lua   5 leases (zset)   6 the worker's running set (hash)
--       then for each workflow: due of each class (zsets), doorbell (list)
-- ARGV  1 worker id   2 how many at the most, up to 1000   3 how many the worker took before
--       4 each so many'th is the longest due of all, whichever its class: so that none waits for ever
--       then for each workflow: its name, how many of it at the most, how many of it may run in the fleet; 0: any number
-- Returns {'lapsed'}, or {'claimed', ms until the next one is due; 0: look again at once, there is more; or -1,
-- member, workflow, ms since due, 1: it has terms, or counts for its workflow's bound, 0: neither, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[5], ARGV[1])
if not lease or tonumber(lease) < now then
  return {'lapsed'}
end
local worker, free, before, in_turn = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Most deployments have neither terms nor bounds, and no task but of the middle class: one look tells.
local special = {}
for k = 7, #KEYS, 4 do
  special[#special + 1], special[#special + 2] = KEYS[k], KEYS[k + 2]
end
local is_plain = redis.call('EXISTS', KEYS[1], KEYS[3], unpack(special)) == 0
local any_terms = not is_plain and redis.call('EXISTS', KEYS[1]) == 1
local any_holders = not is_plain and redis.call('EXISTS', KEYS[3]) == 1
local queues, next_due = {}, -1

-- Note the terms of a page of a queue's rows. They are taken out when all is done: until then `seen` are still there.
local function turn_to(queue, rows)
  queue.rows, queue.at = rows, 1
  if any_terms then
    local members = {}
    for i = 1, #rows, 2 do members[#members + 1] = rows[i] end
    queue.terms = #members > 0 and redis.call('HMGET', KEYS[1], unpack(members)) or {}
  end
end

-- Return the first due task of a queue, and since when it is due.
local function first(queue)
  if queue.at > #queue.rows and #queue.rows == 2 * queue.page + 2 then
    turn_to(queue, redis.call('ZRANGE', KEYS[queue.key], queue.seen, queue.seen + queue.page, 'WITHSCORES'))
  end
  local due = tonumber(queue.rows[queue.at + 1])
  if due and due <= now then return queue.rows[queue.at], due end
  if due and (next_due < 0 or due - now < next_due) then next_due = due - now end
end

for k = 7, #KEYS, 4 do
  local a = 5 + (k - 7) / 4 * 3
  local left, bound, is_full, is_idle = math.min(free, tonumber(ARGV[a + 1])), tonumber(ARGV[a + 2]), false, true
  if bound > 0 then
    local room = bound - count_holders('/' .. ARGV[a])
    left, is_full = math.max(math.min(left, room), 0), room <= 0
  end
  local flow
  for class = is_plain and 1 or 0, is_plain and 1 or 2 do
    local rows = redis.call('ZRANGE', KEYS[k + class], 0, left, 'WITHSCORES')
    local due = tonumber(rows[2])
    if due and due <= now then
      is_idle = false
      if left > 0 then
        flow = flow or {name = ARGV[a], left = left, bound = bound}
        local queue = {flow = flow, class = class, key = k + class, page = left, seen = 0, gone = {}}
        turn_to(queue, rows)
        queues[#queues + 1] = queue
      end
    elseif due and (next_due < 0 or due - now < next_due) then
      next_due = due - now
    end
  end
  -- Nobody need come for them; whose end makes room rings again.
  if is_idle or is_full then redis.call('DEL', KEYS[k + 3]) end
end

local reply, held, holders, counts, limits = {'claimed', 0}, {}, {}, {}, {}
local taken, blocked = 0, 0
while taken < free and blocked < 500 do
  local best, member, due
  local by_class = (before + taken + 1) % in_turn ~= 0
  for _, queue in ipairs(queues) do
    local mine, since = first(queue)
    if mine and queue.flow.left > 0 then
      local rank = by_class and best and queue.class - best.class or 0
      if not best or rank < 0 or (rank == 0 and (since < due or (since == due and mine < member))) then
        best, member, due = queue, mine, since
      end
    end
  end
  if not best then break end
  local flow, said = best.flow, best.terms and best.terms[(best.at + 1) / 2]
  best.at, best.seen = best.at + 2, best.seen + 1
  best.gone[best.seen] = member
  local class, key, limit
  if said then class, key, limit = read_terms(said) end
  if key and not counts[key] then counts[key], limits[key] = count_holders(key), limit_of(key, limit) end
  if key and counts[key] >= limits[key] then
    block(member, flow.name, class, key, limit, due)
    blocked = blocked + 1
  else
    -- Queued a second time while it was running here: its place is overwritten, and what that held is let go.
    local _, holds
    if any_holders then _, holds = read_held(redis.call('HGET', KEYS[6], member) or '') end
    if holds and holds ~= key then redis.call('ZREM', KEYS[3], holds .. '\n' .. member .. '\n' .. worker) end
    if key then
      counts[key] = counts[key] + 1
      note_key(key, flow.name, limit)
      holders[#holders + 1], holders[#holders + 2] = 0, key .. '\n' .. member .. '\n' .. worker
    end
    if flow.bound > 0 then
      holders[#holders + 1], holders[#holders + 2] = 0, '/' .. flow.name .. '\n' .. member .. '\n' .. worker
    end
    held[#held + 1], held[#held + 2] = member, key and flow.name .. '\n' .. key or flow.name
    local r = #reply
    reply[r + 1], reply[r + 2], reply[r + 3] = member, flow.name, now - due
    reply[r + 4] = (said or flow.bound > 0) and 1 or 0
    flow.left, taken = flow.left - 1, taken + 1
  end
end
for _, queue in ipairs(queues) do
  if queue.seen > 0 then redis.call('ZREM', KEYS[queue.key], unpack(queue.gone)) end
end
if taken > 0 then redis.call('HSET', KEYS[6], unpack(held)) end
if #holders > 0 then redis.call('ZADD', KEYS[3], unpack(holders)) end
reply[2] = blocked == 500 and 0 or next_due
return reply
