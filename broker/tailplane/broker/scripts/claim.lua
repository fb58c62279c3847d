-- Take due tasks out of the queues into a worker's running set. Of the tenants that have any the one with the least
-- virtual time goes first; of a tenant a higher class, in a class the longest due.
-- A task whose key is full is not taken but blocked: out of the way of those behind it.
-- KEYS  1-5 of shared/terms.lua   6 leases (zset)   7 the worker's running set (hash)   8 tenants (hash)
--       then for each queue: due of each class (zsets), doorbell (list); the default tenant's of each workflow first
-- ARGV  1 worker id   2 how many at the most, up to 1000
--       3 of a tenant's tasks each so many'th is the longest due, whichever its class: so that none waits for ever
--       4 version of the turns that the worker knows; '': none, and it takes what it has asked for
--       5 '1': these are all the queues that it knows of its workflows   6 the tenant from which on it looks for others
--       7 how many workflows follow   8 how many tenants follow
--       then for each workflow: its name, how many of it at the most, how many of it may run in the fleet; 0: any number
--       then for each tenant: its name, its virtual time, by how much a task raises it, how many the worker took of it
--       before, how many of it may run in the fleet; 0: any number
--       then for each queue: which workflow, which tenant, counted from 1
-- Returns {'lapsed'}; {'turned', version, 1: there are more queues than these, names of queues of the workflows' other
-- tenants as `workflow/tenant`, tenants, what the registry has of each}: there are queues of which it does not know, and
-- nothing was done; or {'claimed', ms until the next one is due; 0: look again at once, there is more; or -1,
-- queues that are empty, tenants for which there was no slot left, tenants that wait for room of a workflow, each with its
-- name, tenants that were not looked at: others had less, then member, workflow, ms since due, 1: it has terms, or counts
-- for a bound, 0: neither, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[6], ARGV[1])
if not lease or tonumber(lease) < now then
  return {'lapsed'}
end
local worker, free, in_turn, known = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local flow_count, tenant_count, queue_count = tonumber(ARGV[7]), tonumber(ARGV[8]), (#KEYS - 8) / 4
local of_tenants, of_queues = 8 + 3 * flow_count, 8 + 3 * flow_count + 5 * tenant_count

-- Return of what the worker does not know, of each workflow as much; of more than that some, in the order of names.
local function turned(version)
  local most, is_cut, names = math.max(10, math.floor(1000 / flow_count)), 0, {}
  local tenants, seen = {'default'}, {default = true}
  for f = 1, flow_count do
    local from, count = ARGV[9 + 3 * (f - 1)] .. '/', 0
    for _, range in ipairs({{'[' .. from .. ARGV[6], '(' .. from .. '~'}, {'[' .. from, '(' .. from .. ARGV[6]}}) do
      local rows = redis.call('ZRANGE', KEYS[5], range[1], range[2], 'BYLEX', 'LIMIT', 0, most - count)
      for _, name in ipairs(rows) do
        local tenant = string.match(name, '[^/]+$')
        names[#names + 1], count = name, count + 1
        if not seen[tenant] then
          seen[tenant], tenants[#tenants + 1] = true, tenant
        end
      end
    end
    if count == most then is_cut = 1 end
  end
  return {'turned', version, is_cut, names, tenants, redis.call('HMGET', KEYS[8], unpack(tenants))}
end

-- Most deployments have no other tenants, neither terms nor bounds, and no task but of the middle class: one look tells.
local special, any_bound = {}, ARGV[of_tenants + 5] ~= '0'
for k = 9, #KEYS, 4 do
  special[#special + 1], special[#special + 2] = KEYS[k], KEYS[k + 2]
end
for f = 1, flow_count do any_bound = any_bound or ARGV[11 + 3 * (f - 1)] ~= '0' end
local found = redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[5], unpack(special))
local version = found > 0 and tonumber(redis.call('ZSCORE', KEYS[5], '~') or 0) or 0
if known ~= '' and tonumber(known) ~= version then
  return turned(version)
end
local is_all = ARGV[5] == '1' and known ~= ''

-- Do what the rest does, where all that it minds is not there: with a fraction of its work.
local function take_plainly()
  local queues, next_due, taken, reply, held = {}, -1, 0, {'claimed', -1, {}, {}, {}, {}}, {}
  for f = 1, flow_count do
    local k, left = 10 + 4 * (f - 1), math.min(free, tonumber(ARGV[10 + 3 * (f - 1)]))
    local rows = redis.call('ZRANGE', KEYS[k], 0, left, 'WITHSCORES')
    local due = tonumber(rows[2])
    if due and due <= now then
      queues[#queues + 1] = {name = ARGV[9 + 3 * (f - 1)], key = k, left = left, rows = rows, at = 1, due = due}
    else
      if due and (next_due < 0 or due - now < next_due) then next_due = due - now end
      if is_all then redis.call('DEL', KEYS[k + 2]) end
    end
  end
  while taken < free do
    local best
    for _, each in ipairs(queues) do
      if each.left > 0 and each.due and (not best or each.due < best.due
          or (each.due == best.due and each.rows[each.at] < best.rows[best.at])) then best = each end
    end
    if not best then break end
    local member, r = best.rows[best.at], #reply
    held[#held + 1], held[#held + 2] = member, best.name
    reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = member, best.name, now - best.due, 0
    taken, best.left, best.at = taken + 1, best.left - 1, best.at + 2
    best.due = tonumber(best.rows[best.at + 1])
    if best.due and best.due > now then
      if next_due < 0 or best.due - now < next_due then next_due = best.due - now end
      best.due = nil
    end
  end
  for _, each in ipairs(queues) do
    local gone = {}
    for i = 1, each.at - 2, 2 do gone[#gone + 1] = each.rows[i] end
    if #gone > 0 then redis.call('ZREM', KEYS[each.key], unpack(gone)) end
  end
  if taken > 0 then redis.call('HSET', KEYS[7], unpack(held)) end
  reply[2] = next_due
  return reply
end

if found == 0 and tenant_count == 1 and not any_bound then
  return take_plainly()
end
local is_plain = found == (version > 0 and 1 or 0)
local any_terms = not is_plain and redis.call('EXISTS', KEYS[1]) == 1
local any_holders = not is_plain and redis.call('EXISTS', KEYS[3]) == 1
local next_due = -1

-- Note the terms of a page of a queue's rows. They are taken out when all is done: until then `seen` are still there.
local function turn_to(line, rows)
  line.rows, line.at = rows, 1
  if any_terms then
    local members = {}
    for i = 1, #rows, 2 do members[#members + 1] = rows[i] end
    line.terms = #members > 0 and redis.call('HMGET', KEYS[1], unpack(members)) or {}
  end
end

local function note_due(due)
  if due and (next_due < 0 or due - now < next_due) then next_due = due - now end
end

-- Return the first due task of a line, and since when it is due.
local function first(line)
  if line.at > #line.rows and #line.rows == 2 * line.page + 2 then
    turn_to(line, redis.call('ZRANGE', KEYS[line.key], line.seen, line.seen + line.page, 'WITHSCORES'))
  end
  local due = tonumber(line.rows[line.at + 1])
  if due and due <= now then return line.rows[line.at], due end
  note_due(due)
end

-- Return the line of a tenant from which it takes next, the task and since when it is due.
local function pick(tenant)
  local best, member, due
  local by_class = (tenant.before + 1) % in_turn ~= 0
  for _, line in ipairs(tenant.lines) do
    local mine, since = first(line)
    if mine and line.flow.left > 0 then
      local rank = by_class and best and line.class - best.class or 0
      if not best or rank < 0 or (rank == 0 and (since < due or (since == due and mine < member))) then
        best, member, due = line, mine, since
      end
    end
  end
  return best, member, due
end

-- How many more may run, where `bound` may of what counts as `key`.
local function room_of(key, bound, at_most)
  if bound == 0 then return at_most end
  return math.max(math.min(at_most, bound - count_holders(key)), 0)
end

local flows, tenants, lines, empty = {}, {}, {}, {}
for f = 1, flow_count do
  local a = 9 + 3 * (f - 1)
  local bound = tonumber(ARGV[a + 2])
  local room = room_of('/' .. ARGV[a], bound, free)
  local left = math.min(room, tonumber(ARGV[a + 1]))
  -- Narrow: what there is of it may be more than the workflow has room for, while the worker has slots.
  flows[f] = {
    name = ARGV[a], bound = bound, left = left, is_narrow = left < free,
    is_full = room == 0, is_idle = true, bell = 12 + 4 * (f - 1)
  }
end
for t = 1, tenant_count do
  local a = of_tenants + 1 + 5 * (t - 1)
  tenants[t] = {
    name = ARGV[a], at = tonumber(ARGV[a + 1]), cost = tonumber(ARGV[a + 2]), before = tonumber(ARGV[a + 3]),
    bound = tonumber(ARGV[a + 4]), queues = {}, lines = {}
  }
end
-- Of many tenants none is likely to get all there is: more of its tasks are looked at when they are needed.
local share = tenant_count == 1 and free or math.max(4, math.ceil(free / tenant_count))
for q = 1, queue_count do
  local a = of_queues + 1 + 2 * (q - 1)
  local queues = tenants[tonumber(ARGV[a + 1])].queues
  queues[#queues + 1] = 9 + 4 * (q - 1)
  queues[#queues + 1] = flows[tonumber(ARGV[a])]
end

-- Look at one of a tenant's queues; how many of its tasks were seen.
local function look(tenant, name, k, flow)
  local page, count = math.min(flow.left, share), 0
  for class = is_plain and 1 or 0, is_plain and 1 or 2 do
    local rows = redis.call('ZRANGE', KEYS[k + class], 0, page, 'WITHSCORES')
    local due = tonumber(rows[2])
    count = count + #rows
    if due and due <= now and tenant.left == 0 then
      -- Whose end makes room calls for it.
      note_key('//' .. tenant.name, name, tenant.bound)
    elseif due and due <= now then
      flow.is_idle = false
      if flow.left > 0 then
        local line = {name = name, flow = flow, class = class, key = k + class, page = page, seen = 0, gone = {}}
        turn_to(line, rows)
        lines[#lines + 1], tenant.lines[#tenant.lines + 1] = line, line
      else
        tenant.waits_for = flow.name
      end
    else
      note_due(due)
    end
  end
  return count
end

-- Look at a tenant's queues, and take off those that are empty.
local function look_at(tenant)
  tenant.is_seen, tenant.left = true, room_of('//' .. tenant.name, tenant.bound, free)
  for q = 1, #tenant.queues, 2 do
    local k, flow = tenant.queues[q], tenant.queues[q + 1]
    local is_default = tenant.name == 'default'
    local name = is_default and flow.name or tenant.name .. '/' .. flow.name
    if look(tenant, name, k, flow) == 0 and not is_default then
      if not any_terms or redis.call('ZLEXCOUNT', KEYS[2], '[' .. name .. '\n', '(' .. name .. '\11') == 0 then
        redis.call('ZREM', KEYS[5], flow.name .. '/' .. tenant.name)
        empty[#empty + 1] = name
      end
    end
  end
end

local reply, held, holders, counts, limits = {'claimed', 0, empty, {}, {}, {}}, {}, {}, {}, {}
local taken, blocked = 0, 0

local function hold(key, member)
  holders[#holders + 1], holders[#holders + 2] = 0, key .. '\n' .. member .. '\n' .. worker
end

-- Hold a task for the worker. Queued a second time while it was running here its place is overwritten, and what that held
-- is let go.
local function take(member, tenant, line, key, limit)
  local flow = line.flow
  if any_holders then
    local _, holds = read_held(redis.call('HGET', KEYS[7], member) or '')
    if holds and holds ~= key then redis.call('ZREM', KEYS[3], holds .. '\n' .. member .. '\n' .. worker) end
  end
  if key then
    counts[key] = counts[key] + 1
    note_key(key, line.name, limit)
    hold(key, member)
  end
  if flow.bound > 0 then hold('/' .. flow.name, member) end
  if tenant.bound > 0 then hold('//' .. tenant.name, member) end
  held[#held + 1], held[#held + 2] = member, key and line.name .. '\n' .. key or line.name
  flow.left, tenant.left = flow.left - 1, tenant.left - 1
  tenant.before, tenant.at = tenant.before + 1, tenant.at + tenant.cost
  taken = taken + 1
end

while taken < free and blocked < 500 do
  local tenant
  for _, each in ipairs(tenants) do
    if not each.is_done and (not tenant or each.at < tenant.at) then tenant = each end
  end
  if not tenant then break end
  if not tenant.is_seen then look_at(tenant) end
  local best, member, due
  if tenant.left > 0 then best, member, due = pick(tenant) end
  if best then
    local said = best.terms and best.terms[(best.at + 1) / 2]
    best.at, best.seen = best.at + 2, best.seen + 1
    best.gone[best.seen] = member
    local class, key, limit
    if said then class, key, limit = read_terms(said) end
    if key and not counts[key] then counts[key], limits[key] = count_holders(key), limit_of(key, limit) end
    if key and counts[key] >= limits[key] then
      block(member, best.name, class, key, limit, due)
      blocked = blocked + 1
    else
      take(member, tenant, best, key, limit)
      local r = #reply
      reply[r + 1], reply[r + 2], reply[r + 3] = member, best.flow.name, now - due
      reply[r + 4] = (said or best.flow.bound > 0 or tenant.bound > 0) and 1 or 0
    end
  else
    tenant.is_done = true
  end
end
-- What is left over of a tenant: of its bound others tell; else it waits for a slot, or for room of a workflow.
local function note_rest(tenant)
  local has_more = false
  for _, line in ipairs(tenant.lines) do
    if first(line) then
      if tenant.left == 0 and tenant.bound > 0 then
        note_key('//' .. tenant.name, line.name, tenant.bound)
      elseif line.flow.left > 0 or not line.flow.is_narrow then
        has_more = true
      else
        tenant.waits_for = line.flow.name
      end
    end
  end
  if has_more then
    reply[4][#reply[4] + 1] = tenant.name
  elseif tenant.waits_for and (tenant.left > 0 or tenant.bound == 0) then
    local n = #reply[5]
    reply[5][n + 1], reply[5][n + 2] = tenant.name, tenant.waits_for
  end
end
for _, tenant in ipairs(tenants) do
  if not tenant.is_seen then
    is_all = false
    reply[6][#reply[6] + 1] = tenant.name
  elseif tenant_count > 1 or tenant.bound > 0 then
    note_rest(tenant)
  end
end
for _, flow in ipairs(flows) do
  -- Nobody need come for them; whose end makes room rings again.
  if is_all and (flow.is_idle or flow.is_full) then redis.call('DEL', KEYS[flow.bell]) end
end
for _, line in ipairs(lines) do
  if line.seen > 0 then redis.call('ZREM', KEYS[line.key], unpack(line.gone)) end
end
if taken > 0 then redis.call('HSET', KEYS[7], unpack(held)) end
if #holders > 0 then redis.call('ZADD', KEYS[3], unpack(holders)) end
reply[2] = blocked == 500 and 0 or next_due
return reply
