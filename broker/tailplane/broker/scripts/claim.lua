-- Take due tasks out of the queues into a worker's running set, the longest due first.
-- KEYS  1 leases (zset)   2 the worker's running set (hash)   then for each workflow: due (zset), doorbell (list)
-- ARGV  1 worker id   2 how many at the most, up to 1000   then for each workflow: its name, how many of it at the most
-- Returns {'lapsed'}, or {'claimed', ms until the next one is due or -1, member, workflow, ms since due, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) < now then
  return {'lapsed'}
end
local free = tonumber(ARGV[2])
local found, next_due = {}, -1
for k = 3, #KEYS, 2 do
  local limit = math.min(free, tonumber(ARGV[k + 1]))
  local rows = redis.call('ZRANGE', KEYS[k], 0, limit, 'WITHSCORES')
  if #rows == 0 or tonumber(rows[2]) > now then redis.call('DEL', KEYS[k + 1]) end
  for i = 1, #rows, 2 do
    local due = tonumber(rows[i + 1])
    if due > now then
      if next_due < 0 or due - now < next_due then next_due = due - now end
    elseif (i + 1) / 2 <= limit then
      found[#found + 1] = {due, rows[i], k}
    end
  end
end
table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
local reply, held, taken = {'claimed', next_due}, {}, {}
for i = 1, math.min(free, #found) do
  local due, member, k = unpack(found[i])
  taken[k] = taken[k] or {}
  table.insert(taken[k], member)
  held[#held + 1], held[#held + 2] = member, ARGV[k]
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = member, ARGV[k], now - due
end
for k, members in pairs(taken) do
  redis.call('ZREM', KEYS[k], unpack(members))
end
if #held > 0 then redis.call('HSET', KEYS[2], unpack(held)) end
return reply
