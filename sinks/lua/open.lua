-- Take over the tables: give a writer its epoch, unless a later attempt of the same job has been here.
--
-- KEYS  1 epoch (hash)  2 generation (string)
-- ARGV  1 job id  2 attempt  3 now, ms  4 lowest epoch allowed  5 a fresh generation name
--       6 an epoch found in a table, which the answer must be above
-- Returns {'OPENED', epoch, generation} or {'FENCED', job id, attempt, epoch}.

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'job_id', 'attempt')
local epoch, job, attempt = stored[1], stored[2], stored[3]

if epoch and job == ARGV[1] then
  if tonumber(attempt) > tonumber(ARGV[2]) then
    return {'FENCED', job, attempt, epoch}
  end
  if tonumber(attempt) == tonumber(ARGV[2]) and tonumber(epoch) > tonumber(ARGV[6]) then
    redis.call('SET', KEYS[2], ARGV[5], 'NX')
    return {'OPENED', epoch, redis.call('GET', KEYS[2])}
  end
end

local mine = math.max(tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6]) + 1)
if epoch then
  mine = math.max(mine, tonumber(epoch) + 1)
end
-- tostring() would round from 10^14 on; '%.0f' is exact below 2^53.
local text = string.format('%.0f', mine)

redis.call('HSET', KEYS[1], 'epoch', text, 'job_id', ARGV[1], 'attempt', ARGV[2], 'opened_at', ARGV[3])
redis.call('SET', KEYS[2], ARGV[5], 'NX')
return {'OPENED', text, redis.call('GET', KEYS[2])}
